# Completion of dblock for bash. The command that dblock runs is completed as its own, by what
# bash-completion knows, or, where that is not loaded, by what `complete` knows.
# Made from dblock's grammar by `go generate ./completion`.
# shellcheck shell=bash disable=SC1003,SC2088

# __dblock_flags COMMAND sets flags to the names of its flags.
__dblock_flags() {
	case $1 in
	run) flags='-h --help --version -d --db --lock-file -w --wait -n --nonblock --max-retries --retry-delay -E --conflict-exit-code -s --shared -x --exclusive --priority -p --process --info --ttl --no-history --stale-timeout --stale --on-lost --kill-after --time-limit --on-time-limit --orphan --slow -o --close -c --command -q --quiet -v --verbose' ;;
	status) flags='-h --help -d --db --lock-file --stale-timeout --stale -v --verbose --json -q --quiet --exit-code --force -y --yes --id --if-stale --kill-after --watch --until-free -w --wait -E --conflict-exit-code' ;;
	force) flags='-h --help -d --db --lock-file --stale-timeout --stale -y --yes --id --if-stale --kill-after --no-history -q --quiet' ;;
	log) flags='-h --help -d --db --lock-file -n --number --since -f --follow --json' ;;
	hold) flags='-h --help -d --db --lock-file -w --wait -n --nonblock --max-retries --retry-delay -E --conflict-exit-code -s --shared -x --exclusive --priority -p --process --info --ttl --no-history --stale-timeout --stale --on-lost --kill-after --time-limit --on-time-limit --for -q --quiet -v --verbose' ;;
	release) flags='-h --help -d --db --lock-file -q --quiet' ;;
	session) flags='-h --help -d --db --lock-file -w --wait --priority -p --process --info --no-history --time-limit --on-time-limit --kill-after --stale-timeout --stale' ;;
	ls) flags='-h --help --stale-timeout --stale -a --all -x --one-file-system --json -q --quiet --exit-code' ;;
	doctor) flags='-h --help -d --db --lock-file --json -v --verbose' ;;
	completion) flags='-h --help' ;;
	stats) flags='-h --help -d --db --lock-file --from --since --until --by --json --openmetrics -o --output --html --trace' ;;
	top) flags='-h --help -d --db --lock-file --stale-timeout --stale --sort --no-history' ;;
	*) flags= ;;
	esac
}

# __dblock_takes COMMAND FLAG sets takes to what the flag's value is; to nothing if it has none.
__dblock_takes() {
	takes=
	case $1 in
	run)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		-w | --wait | --timeout | --max-retries | --retry-delay | -E | --conflict-exit-code | -p | --process | --info | --ttl | --stale-timeout | --kill-after | --time-limit | --slow | -c | --command) takes='text' ;;
		--priority) takes='words low normal high' ;;
		--stale) takes='words dead age' ;;
		--on-lost | --on-time-limit) takes='words term kill warn' ;;
		--orphan) takes='words term keep' ;;
		esac
		;;
	status)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		--stale-timeout | --id | --kill-after | -w | --wait | -E | --conflict-exit-code) takes='text' ;;
		--stale) takes='words dead age' ;;
		esac
		;;
	force)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		--stale-timeout | --id | --kill-after) takes='text' ;;
		--stale) takes='words dead age' ;;
		esac
		;;
	log)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		-n | --number | --since) takes='text' ;;
		esac
		;;
	hold)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		-w | --wait | --max-retries | --retry-delay | -E | --conflict-exit-code | -p | --process | --info | --ttl | --stale-timeout | --kill-after | --time-limit | --for) takes='text' ;;
		--priority) takes='words low normal high' ;;
		--stale) takes='words dead age' ;;
		--on-lost | --on-time-limit) takes='words term kill warn' ;;
		esac
		;;
	release)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		esac
		;;
	session)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		-w | --wait | -p | --process | --info | --time-limit | --kill-after | --stale-timeout) takes='text' ;;
		--priority) takes='words low normal high' ;;
		--on-time-limit) takes='words term kill warn' ;;
		--stale) takes='words dead age' ;;
		esac
		;;
	ls)
		case $2 in
		--stale-timeout) takes='text' ;;
		--stale) takes='words dead age' ;;
		esac
		;;
	doctor)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		esac
		;;
	stats)
		case $2 in
		-d | --db | --lock-file | --from | -o | --output | --html | --trace) takes='file' ;;
		--since | --until) takes='text' ;;
		--by) takes='words process command user host' ;;
		esac
		;;
	top)
		case $2 in
		-d | --db | --lock-file) takes='file' ;;
		--stale-timeout) takes='text' ;;
		--stale) takes='words dead age' ;;
		--sort) takes='words name age waits' ;;
		esac
		;;
	esac
}

# __dblock_place COMMAND NUMBER sets takes to what the command's argument of this number is.
__dblock_place() {
	takes=
	case $1 in
	ls) (($2 > 1)) || takes='directory' ;;
	completion) (($2 > 1)) || takes='words bash zsh fish' ;;
	top) takes='directory' ;;
	help) (($2 > 1)) || takes='words run status force log hold release session ls doctor completion stats top' ;;
	esac
}

# __dblock_unquote WORD sets REPLY to what the shell makes of it, also if a quote is still open.
__dblock_unquote() {
	local word=$1 quote='' c i
	REPLY=
	for ((i = 0; i < ${#word}; i++)); do
		c=${word:i:1}
		case $quote$c in
		"''" | '""') quote= ;;
		\' | \") quote=$c ;;
		\\)
			i=$((i + 1))
			REPLY+=${word:i:1}
			;;
		'"\')
			i=$((i + 1))
			c=${word:i:1}
			case $c in
			[\$\`\"\\]) ;;
			*) REPLY+=\\ ;;
			esac
			REPLY+=$c
			;;
		*) REPLY+=$c ;;
		esac
	done
}

# __dblock_reply PREFIX adds the lines of standard input to what is offered, behind the prefix. Of
# what readline takes for an earlier word, nothing is to be repeated.
__dblock_reply() {
	local reply
	while IFS= read -r reply; do
		reply=$1$reply
		COMPREPLY[${#COMPREPLY[@]}]=${reply#"$earlier"}
	done
}

# __dblock_paths KIND PREFIX PATH offers files and directories, or directories.
__dblock_paths() {
	local path=$3 home=''
	if [[ -z $2 && $path == '~/'* ]]; then
		home=$HOME/
		path=$home${path#'~/'}
	fi
	compopt -o filenames 2>/dev/null
	__dblock_reply "$2" < <(
		set +f
		shopt -u failglob
		for name in "$path"*; do
			[[ -d $name || $1 == file && ( -e $name || -L $name ) ]] || continue
			# Readline does not see that it is a directory if a prefix is part of the word.
			[[ -z $2 || ! -d $name ]] || name+=/
			[[ -z $home ]] || name='~/'${name#"$home"}
			printf '%s\n' "$name"
		done
	)
	# Readline itself knows what becomes of $NAME/ and ~NAME/.
	[[ ${#COMPREPLY[@]} -gt 0 || $1 != file || -n $2 ]] || compopt -o default 2>/dev/null
	if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]]; then
		compopt -o nospace 2>/dev/null
	fi
}

# __dblock_value TAKES PREFIX VALUE offers values.
__dblock_value() {
	case $1 in
	file | directory) __dblock_paths "$1" "$2" "$3" ;;
	words*) __dblock_reply "$2" < <(compgen -W "${1#words }" -- "$3") ;;
	esac
}

# __dblock_programs WORD offers names of commands, or paths.
__dblock_programs() {
	case $1 in
	*/*) __dblock_paths file '' "$1" ;;
	*) __dblock_reply '' < <(compgen -c -- "$1") ;;
	esac
}

# __dblock_command N WORD completes WORD, the last one, as if the command line began with COMP_WORDS[N].
__dblock_command() {
	local i spec handler=''
	if ((COMP_CWORD == $1)); then
		__dblock_programs "$2"
		return
	fi
	for handler in _comp_command_offset _command_offset; do
		if declare -F "$handler" >/dev/null; then
			"$handler" "$1"
			return
		fi
	done
	for ((i = 0; i < $1; i++)); do
		spec=${COMP_LINE%%"${COMP_WORDS[i]}"*}${COMP_WORDS[i]}
		COMP_LINE=${COMP_LINE:${#spec}}
		COMP_POINT=$((COMP_POINT - ${#spec}))
	done
	spec=${COMP_LINE%%[![:space:]]*}
	COMP_LINE=${COMP_LINE:${#spec}}
	COMP_POINT=$((COMP_POINT - ${#spec}))
	COMP_WORDS=("${COMP_WORDS[@]:$1}")
	COMP_CWORD=$((COMP_CWORD - $1))
	local name=${COMP_WORDS[0]}
	spec=$(complete -p -- "$name" 2>/dev/null || complete -p -- "${name##*/}" 2>/dev/null)
	local IFS=$' \t\n'
	local -a parts
	read -r -a parts <<<"$spec"
	handler=
	for ((i = 0; i + 1 < ${#parts[@]}; i++)); do
		case ${parts[i]} in
		-F) handler=${parts[i + 1]} ;;
		-o) compopt -o "${parts[i + 1]}" 2>/dev/null ;;
		esac
	done
	if [[ -n $handler ]] && declare -F "$handler" >/dev/null; then
		"$handler" "$name" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
	else
		__dblock_paths file '' "$2"
	fi
}

_dblock() {
	COMPREPLY=()
	local IFS=$' \t\n'
	local -a words=() starts=()
	local i last=-1 rest=${COMP_LINE:0:COMP_POINT} part='' earlier='' takes='' flags=''
	# Readline cuts words at = and :, too. Here they are whole; the one at i begins with COMP_WORDS[starts[i]].
	for ((i = 0; i <= COMP_CWORD; i++)); do
		if ((i == 0)) || [[ -z $rest || $rest == [[:space:]]* ]]; then
			rest=${rest#"${rest%%[![:space:]]*}"}
			last=$((last + 1))
			words[last]=
			starts[last]=$i
			earlier=
		fi
		earlier+=$part
		part=${COMP_WORDS[i]}
		((i < COMP_CWORD)) || part=$rest
		((starts[last] < i)) || earlier=
		words[last]+=$part
		rest=${rest#"$part"}
	done
	# What it has cut at is no part of the word that it completes.
	case $part in
	*[!=:@]*) ;;
	*) earlier+=$part ;;
	esac
	__dblock_unquote "$earlier"
	earlier=$REPLY

	local command=run at=1 place=0 word letter prefix
	__dblock_unquote "${words[last]}"
	local current=$REPLY
	if ((last == 1)) && [[ $current != -* ]]; then
		__dblock_reply '' < <(compgen -W 'run status force log hold release session ls doctor completion stats top help' -- "$current")
		# A command can stand here if the environment names the database.
		if [[ ${#COMPREPLY[@]} -eq 0 || -n ${DBLOCK_DB-}${DBLOCK_LOCK_FILE-}${DBLOCK_HOLD_LOCK_FILE-} ]]; then
			__dblock_programs "$current"
		fi
		return
	fi
	__dblock_unquote "${words[1]}"
	case $REPLY in
	run | status | force | log | hold | release | session | ls | doctor | completion | stats | top | help)
		command=$REPLY
		at=2
		;;
	esac
	while ((at < last)); do
		__dblock_unquote "${words[at]}"
		word=$REPLY
		at=$((at + 1))
		takes=
		case $word in
		--)
			if [[ $command == run ]]; then
				__dblock_command "${starts[at]}" "$current"
			fi
			return
			;;
		--*) __dblock_takes "$command" "$word" ;;
		-?*)
			for ((i = 1; i < ${#word}; i++)); do
				__dblock_takes "$command" "-${word:i:1}"
				[[ -z $takes ]] || break
			done
			((i + 1 >= ${#word})) || takes= # the value is behind the letter
			;;
		*)
			if [[ $command == run ]]; then
				__dblock_command "${starts[at - 1]}" "$current"
				return
			fi
			place=$((place + 1))
			;;
		esac
		if [[ -n $takes ]]; then
			if ((at == last)); then
				__dblock_value "$takes" '' "$current"
				return
			fi
			at=$((at + 1))
		fi
	done

	case $current in
	--*=*)
		prefix=${current%%=*}
		__dblock_takes "$command" "$prefix"
		__dblock_value "$takes" "$prefix=" "${current#*=}"
		return
		;;
	-[!-]?*)
		for ((i = 1; i + 1 < ${#current}; i++)); do
			letter=${current:i:1}
			__dblock_takes "$command" "-$letter"
			if [[ -n $takes ]]; then
				__dblock_value "$takes" "${current:0:i+1}" "${current:i+1}"
				return
			fi
		done
		;;
	esac
	case $current in
	-*)
		__dblock_flags "$command"
		__dblock_reply '' < <(compgen -W "$flags" -- "$current")
		;;
	*)
		if [[ $command == run ]]; then
			__dblock_command "${starts[last]}" "$current"
		else
			__dblock_place "$command" "$((place + 1))"
			__dblock_value "$takes" '' "$current"
		fi
		;;
	esac
}

complete -F _dblock dblock
