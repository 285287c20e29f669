#!/usr/bin/env bash
# Disables every marked check of the lock code in turn, in a copy of the tree, and
# requires that the test which docs/dev/checks.md names for it fails.
#
#   if [INIT; ]COND {  // check: NAME              COND is never true
#   CODE               // check: NAME: OLD -> NEW  NEW takes the place of OLD
#
# Usage: test/mutate.sh [NAME...]
# shellcheck disable=SC2016 # the backquotes are Markdown's
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R go.mod go.sum history internal lock signals "$copy"
cd "$copy"

# marks prints FILE:LINE:CODE of every mark.
marks() { grep -rn --include='*.go' --exclude='*_test.go' '// check: ' lock; }

# named prints the test that docs/dev/checks.md names for a check.
named() { sed -n "s/^| \`$1\` |.*| \`\(Test[A-Za-z]*\)\` |\$/\1/p" "$root/docs/dev/checks.md"; }

# mutated prints a line of code with its check disabled.
mutated() {
    local code=${1%%// check: *} mark=${1#*// check: } old new init='' cond
    if [[ $mark == *": "*" -> "* ]]; then
        old=${mark#*: } new=${mark##* -> }
        old=${old%% -> *}
        [[ $code == *"$old"* ]] || return 1
        printf '%s%s%s\n' "${code%%"$old"*}" "$new" "${code#*"$old"}"
        return
    fi
    [[ $code =~ ^([[:space:]]*)if\ (.*)\ \{\ *$ ]] || return 1
    cond=${BASH_REMATCH[2]}
    if [[ $cond == *"; "* ]]; then
        init="${cond%%; *}; " cond=${cond#*; }
    fi
    printf '%sif %sfalse && (%s) {\n' "${BASH_REMATCH[1]}" "$init" "$cond"
}

# run runs one test in whichever package has it.
run() { go test -vet=off -count=1 -timeout 2m -run "^($1)\$" ./lock/... 2>&1; }

passed=0 failed=0
verdict() { # NAME TEXT OK
    printf '%-26s %s\n' "$1" "$2"
    if [[ $3 == ok ]]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

all=$(sed -n 's/^| `[a-z-]*` |.*| `\(Test[A-Za-z]*\)` |$/\1/p' "$root/docs/dev/checks.md" | sort -u | paste -sd '|')
if ! out=$(run "$all"); then
    printf '%s\nthe tests fail before anything is changed\n' "$out" >&2
    exit 1
fi

seen=' '
while IFS=: read -r file line code; do
    name=${code#*// check: }
    name=${name%%:*}
    seen+="$name "
    if (($# > 0)) && [[ " $* " != *" $name "* ]]; then continue; fi
    test=$(named "$name")
    if [[ -z $test ]]; then
        verdict "$name" "docs/dev/checks.md names no test" bad
        continue
    fi
    if ! new=$(mutated "$code"); then
        verdict "$name" "the mark cannot be understood: $file:$line" bad
        continue
    fi
    cp "$file" original
    { head -n $((line - 1)) original && printf '%s\n' "$new" && tail -n +$((line + 1)) original; } >"$file"
    if ! out=$(go build ./lock/... 2>&1); then
        verdict "$name" "does not compile without it: $out" bad
    elif out=$(run "$test"); then
        verdict "$name" "NOT noticed by $test" bad
    elif [[ $out != *"--- FAIL: $test"* && $out != *"panic: test timed out"* ]]; then
        verdict "$name" "$test could not be run: $out" bad
    else
        verdict "$name" "noticed by $test" ok
    fi
    cp original "$file"
done < <(marks)

while read -r name; do
    [[ $seen == *" $name "* ]] || verdict "$name" "is in docs/dev/checks.md but nowhere in the code" bad
done < <(sed -n 's/^| `\([a-z-]*\)` |.*/\1/p' "$root/docs/dev/checks.md")

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
