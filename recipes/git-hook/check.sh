#!/bin/sh
. "$RECIPES/lib.sh"
need git git
need sqlite3 sqlite3

mkdir "$scratch/home" data
export HOME="$scratch/home" GIT_CONFIG_NOSYSTEM=1
git config --global user.name recipe
git config --global user.email recipe@example.org
git config --global init.defaultBranch main
git init -q
cp gitignore .gitignore
git config core.hooksPath hooks

commits() {
	git rev-list --count HEAD 2>/dev/null || echo 0
}

sqlite3 data/app.db 'CREATE TABLE t (n INTEGER)'
sqlite3 data/app.db .schema >schema.sql
git add .gitignore schema.sql hooks
git commit -qm first || fail "the first commit"
equal "commits" "$(commits)" 1
! git ls-files --others --exclude-standard | grep -F .lock || fail "lock files are not ignored"

# A commit in the middle of a change of the schema waits, and sees the end of it.
cat >change.sh <<'END'
#!/bin/sh
sqlite3 data/app.db 'ALTER TABLE t RENAME TO half_way'
until [ -e go-on ]; do sleep 0.05; done
sqlite3 data/app.db 'ALTER TABLE half_way RENAME TO t2'
END
chmod +x change.sh
printf 'CREATE TABLE IF NOT EXISTS "t2" (n INTEGER);\n' >schema.sql
git add schema.sql
dblock -d data/app.db -p change -- ./change.sh &
change=$!
until_true 10 held -d data/app.db
git commit -qm second &
second=$!
until_true 20 waiting 1 data/app.db
touch go-on
wait_all "$change" "$second"
equal "commits" "$(commits)" 2

# A schema that is not the database's is refused; so is a commit that would have to wait too long.
echo '-- something else' >>schema.sql
git add schema.sql
if git commit -qm third 2>"$scratch/refused"; then fail "a wrong schema was committed"; fi
grep -q 'is not the schema' "$scratch/refused" || fail "it was refused for another reason: $(cat "$scratch/refused")"
git checkout -q HEAD -- schema.sql
touch other
git add other
dblock -d data/app.db -p somebody -- sleep 60 &
somebody=$!
until_true 10 held -d data/app.db
sed -i 's/-w 30/-w 0/' hooks/pre-commit
if git commit -qm third 2>"$scratch/refused"; then fail "it was committed while the database was held"; fi
grep -q 'held by somebody' "$scratch/refused" || fail "nobody says who is in the way: $(cat "$scratch/refused")"
equal "commits" "$(commits)" 2
kill "$somebody"
wait "$somebody" || :
say "a commit waits for a change of the schema; a wrong schema is refused"
