# Completion of dblock for fish. The command that dblock runs is completed as its own.
# Made from dblock's grammar by `go generate ./completion`.

# __dblock_takes COMMAND FLAG prints what the flag's value is; nothing if it has none.
function __dblock_takes
    switch $argv[1]
        case run
            switch $argv[2]
                case -d --db --lock-file
                    echo file
                case -w --wait --timeout --max-retries --retry-delay -E --conflict-exit-code -p --process --info --ttl --stale-timeout --kill-after --time-limit --slow -c --command
                    echo text
                case --priority
                    echo words low normal high
                case --stale
                    echo words dead age
                case --on-lost --on-time-limit
                    echo words term kill warn
                case --orphan
                    echo words term keep
            end
        case status
            switch $argv[2]
                case -d --db --lock-file
                    echo file
                case --stale-timeout --id --kill-after -w --wait -E --conflict-exit-code
                    echo text
                case --stale
                    echo words dead age
            end
        case force
            switch $argv[2]
                case -d --db --lock-file
                    echo file
                case --stale-timeout --id --kill-after
                    echo text
                case --stale
                    echo words dead age
            end
        case log
            switch $argv[2]
                case -d --db --lock-file
                    echo file
                case -n --number --since
                    echo text
            end
        case hold
            switch $argv[2]
                case -d --db --lock-file
                    echo file
                case -w --wait --max-retries --retry-delay -E --conflict-exit-code -p --process --info --ttl --stale-timeout --kill-after --time-limit --for
                    echo text
                case --priority
                    echo words low normal high
                case --stale
                    echo words dead age
                case --on-lost --on-time-limit
                    echo words term kill warn
            end
        case release
            switch $argv[2]
                case -d --db --lock-file
                    echo file
            end
        case session
            switch $argv[2]
                case -d --db --lock-file
                    echo file
                case -w --wait -p --process --info --time-limit --kill-after --stale-timeout
                    echo text
                case --priority
                    echo words low normal high
                case --on-time-limit
                    echo words term kill warn
                case --stale
                    echo words dead age
            end
        case ls
            switch $argv[2]
                case --stale-timeout
                    echo text
                case --stale
                    echo words dead age
            end
        case doctor
            switch $argv[2]
                case -d --db --lock-file
                    echo file
            end
        case stats
            switch $argv[2]
                case -d --db --lock-file --from -o --output --html --trace
                    echo file
                case --since --until
                    echo text
                case --by
                    echo words process command user host
            end
        case top
            switch $argv[2]
                case -d --db --lock-file
                    echo file
                case --stale-timeout
                    echo text
                case --stale
                    echo words dead age
                case --sort
                    echo words name age waits
            end
    end
end

# __dblock_where prints what may come next: first (a subcommand), the name of a subcommand (its flags,
# or what stands in its own places), "filled" and the name (its flags only), "value" and the name (a
# flag's value), "command" and the number of words before it, or none.
function __dblock_where
    set -l words (commandline -opc)
    set -l count (count $words)
    set -l command run
    set -l at 2
    set -l filled
    if test $count -lt 2
        echo first
        return
    end
    if contains -- $words[2] run status force log hold release session ls doctor completion stats top help
        set command $words[2]
        set at 3
    end
    while test $at -le $count
        set -l word $words[$at]
        set at (math $at + 1)
        set -l valued false
        switch $word
            case --
                if test $command = run
                    echo command (math $at - 1)
                else
                    echo none
                end
                return
            case '--*'
                test -n "$(__dblock_takes $command $word)"; and set valued true
            case '-?*'
                set -l letters (string split '' -- (string sub -s 2 -- $word))
                for i in (seq (count $letters))
                    if test -n "$(__dblock_takes $command -$letters[$i])"
                        test $i -eq (count $letters); and set valued true
                        break
                    end
                end
            case '*'
                if test $command = run
                    echo command (math $at - 2)
                    return
                end
                test $command = ls; and set filled filled
                test $command = completion; and set filled filled
                test $command = help; and set filled filled
        end
        if test $valued = true
            if test $at -gt $count
                echo value $command
                return
            end
            set at (math $at + 1)
        end
    end
    echo $filled $command
end

# __dblock_is COMMAND: whether its flags may come next, or the value of one.
function __dblock_is
    set -l where (__dblock_where)
    contains -- "$where" $argv[1] "value $argv[1]" "filled $argv[1]"; or test $argv[1] = run -a "$where" = first
end

# __dblock_place COMMAND: whether what stands in a place of its own may come next.
function __dblock_place
    test "$(__dblock_where)" = $argv[1]
end

# __dblock_command completes what is behind dblock's own words as a command line.
function __dblock_command
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l where (__dblock_where | string split ' ')
    switch $where[1]
        case command
            set -e words[1..$where[2]]
        case run
            string match -q -- '-*' "$current"; and return
            set words
        case first
            string match -q -- '-*' "$current"; and return
            # A command can stand here if the environment names the database.
            if test -z "$DBLOCK_DB$DBLOCK_LOCK_FILE$DBLOCK_HOLD_LOCK_FILE"
                string match -q -- "$current*" run status force log hold release session ls doctor completion stats top help; and return
            end
            set words
        case '*'
            return
    end
    complete -C (string join ' ' -- (string escape -- $words) "$current")
end

# __dblock_behind_letter prints paths for one that follows a letter at once, as in -dPATH, where fish by
# itself looks for no files.
function __dblock_behind_letter
    set -l current (commandline -ct | string unescape)
    set -l where (__dblock_where | string split ' ')
    switch $where[1]
        case command value none
            return
    end
    set -l command (string replace first run $where[-1])
    string match -qr -- '^-[^-].' "$current"; or return
    for i in (seq 2 (math (string length -- $current) - 1))
        switch (__dblock_takes $command -(string sub -s $i -l 1 -- $current))
            case file
                __fish_complete_path (string sub -s (math $i + 1) -- $current)
                return
            case '?*'
                return
        end
    end
end

complete -c dblock -f
complete -c dblock -a '(__dblock_command)'
complete -c dblock -n "__dblock_place first" -a run -d 'Run a command while holding the lock (the default)'
complete -c dblock -n "__dblock_place first" -a status -d 'Show who holds the lock, since when, and who waits'
complete -c dblock -n "__dblock_place first" -a force -d 'Remove a lock that is stuck'
complete -c dblock -n "__dblock_place first" -a log -d 'Show what has happened to the lock'
complete -c dblock -n "__dblock_place first" -a hold -d 'Hold the lock in a shell script: eval "$(dblock hold -d PATH)"'
complete -c dblock -n "__dblock_place first" -a release -d 'Release what this shell holds'
complete -c dblock -n "__dblock_place first" -a session -d 'Serve a program in any language, by lines of JSON'
complete -c dblock -n "__dblock_place first" -a ls -d 'List all locks below a directory'
complete -c dblock -n "__dblock_place first" -a doctor -d 'Find out whether locking works here'
complete -c dblock -n "__dblock_place first" -a completion -d 'Print what makes a shell complete the arguments of dblock'
complete -c dblock -n "__dblock_place first" -a stats -d 'Show what the history of a lock adds up to: who had it, who waited, and for whom'
complete -c dblock -n "__dblock_place first" -a top -d 'Show locks as they change: who has them, who waits, and how long'
complete -c dblock -n "__dblock_place first" -a help -d 'Show all flags of a subcommand'
complete -c dblock -n '__dblock_place help' -a 'run status force log hold release session ls doctor completion stats top'

complete -c dblock -n '__dblock_is run' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is run' -l version -d 'Print the version'
complete -c dblock -n '__dblock_is run' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is run' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is run' -s w -l wait -x -d 'How long to wait for the lock: seconds (2.5), 90s, 5m, 0 (do not wait), forever'
complete -c dblock -n '__dblock_is run' -s n -l nonblock -d 'Do not wait'
complete -c dblock -n '__dblock_is run' -l max-retries -x -d 'The longest wait, as a number of retries (50)'
complete -c dblock -n '__dblock_is run' -l retry-delay -x -d 'The time between two retries (100ms)'
complete -c dblock -n '__dblock_is run' -s E -l conflict-exit-code -x -d 'The exit code when the lock was not acquired (75)'
complete -c dblock -n '__dblock_is run' -s s -l shared -d 'Share the lock with other readers'
complete -c dblock -n '__dblock_is run' -s x -l exclusive -d 'Hold the lock alone (the default)'
complete -c dblock -n '__dblock_is run' -l priority -x -a 'low normal high' -d 'Who goes first of those who wait: low, normal or high (normal)'
complete -c dblock -n '__dblock_is run' -s p -l process -x -d 'The label that others see (dblock)'
complete -c dblock -n '__dblock_is run' -l info -x -d 'What others are to know, in the lock file: a reason, a ticket, an address'
complete -c dblock -n '__dblock_is run' -l ttl -x -d 'How long etcd keeps the lock of a machine that does not answer (15s)'
complete -c dblock -n '__dblock_is run' -l no-history -d 'Do not add to the history of the lock'
complete -c dblock -n '__dblock_is run' -l stale-timeout -x -d 'The age from which a foreign lock may count as abandoned (30s)'
complete -c dblock -n '__dblock_is run' -l stale -x -a 'dead age' -d 'When it counts as abandoned: \'dead\': when its process has ended; \'age\': whenever it is older than that (dead)'
complete -c dblock -n '__dblock_is run' -l on-lost -x -a 'term kill warn' -d 'What to do with the command when the lock is lost: term, kill or warn (term)'
complete -c dblock -n '__dblock_is run' -l kill-after -x -d 'How long after SIGTERM to send SIGKILL (10s)'
complete -c dblock -n '__dblock_is run' -l time-limit -x -d 'How long the command may run: 90s, 5m'
complete -c dblock -n '__dblock_is run' -l on-time-limit -x -a 'term kill warn' -d 'What to do with the command when its time is up: term, kill or warn (term)'
complete -c dblock -n '__dblock_is run' -l orphan -x -a 'term keep' -d 'What becomes of the command if dblock is killed: term or keep (term)'
complete -c dblock -n '__dblock_is run' -l slow -x -d 'Say afterwards whom the command has waited for, if that was longer'
complete -c dblock -n '__dblock_is run' -s o -l close -d 'Do not let the command inherit the lock\'s descriptor'
complete -c dblock -n '__dblock_is run' -s c -l command -x -d 'Run STRING with $SHELL -c'
complete -c dblock -n '__dblock_is run' -s q -l quiet -d 'Say nothing about waiting; given twice, nothing about giving up and losing the lock either'
complete -c dblock -n '__dblock_is run' -s v -l verbose -d 'Also say when the lock was acquired, and after how long'

complete -c dblock -n '__dblock_is status' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is status' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is status' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is status' -l stale-timeout -x -d 'The age from which a foreign lock may count as abandoned (30s)'
complete -c dblock -n '__dblock_is status' -l stale -x -a 'dead age' -d 'When it counts as abandoned: \'dead\': when its process has ended; \'age\': whenever it is older than that (dead)'
complete -c dblock -n '__dblock_is status' -s v -l verbose -d 'Show all that is known: evidence, token, who waits'
complete -c dblock -n '__dblock_is status' -l json -d 'Print one JSON object (see the manual)'
complete -c dblock -n '__dblock_is status' -s q -l quiet -d 'Print nothing'
complete -c dblock -n '__dblock_is status' -l exit-code -d 'Exit with 1 if it is locked'
complete -c dblock -n '__dblock_is status' -l force -d 'Remove the lock, like dblock force'
complete -c dblock -n '__dblock_is status' -s y -l yes -d 'With --force: also end a live holder, without asking'
complete -c dblock -n '__dblock_is status' -l id -x -d 'With --force: only this lock, live or not'
complete -c dblock -n '__dblock_is status' -l if-stale -d 'With --force: only what is stale'
complete -c dblock -n '__dblock_is status' -l kill-after -x -d 'With --force: how long after SIGTERM to send SIGKILL (10s)'
complete -c dblock -n '__dblock_is status' -l watch -d 'Print a line for each change, until it is interrupted'
complete -c dblock -n '__dblock_is status' -l until-free -d 'Wait until it is free, without joining the queue'
complete -c dblock -n '__dblock_is status' -s w -l wait -x -d 'With --until-free: how long to wait (forever)'
complete -c dblock -n '__dblock_is status' -s E -l conflict-exit-code -x -d 'With --until-free: the exit code when it was not free in time (75)'

complete -c dblock -n '__dblock_is force' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is force' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is force' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is force' -l stale-timeout -x -d 'The age from which a foreign lock may count as abandoned (30s)'
complete -c dblock -n '__dblock_is force' -l stale -x -a 'dead age' -d 'When it counts as abandoned: \'dead\': when its process has ended; \'age\': whenever it is older than that (dead)'
complete -c dblock -n '__dblock_is force' -s y -l yes -d 'Also end a live holder, without asking'
complete -c dblock -n '__dblock_is force' -l id -x -d 'Only the lock that dblock status -v showed with this id, live or not'
complete -c dblock -n '__dblock_is force' -l if-stale -d 'Only what is stale; for cron'
complete -c dblock -n '__dblock_is force' -l kill-after -x -d 'How long after SIGTERM to send SIGKILL (10s)'
complete -c dblock -n '__dblock_is force' -l no-history -d 'Do not add to the history of the lock'
complete -c dblock -n '__dblock_is force' -s q -l quiet -d 'Print nothing but errors'

complete -c dblock -n '__dblock_is log' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is log' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is log' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is log' -s n -l number -x -d 'How many events are shown, the last ones (20); 0 for all'
complete -c dblock -n '__dblock_is log' -l since -x -d 'Only what has happened since: 2h or 3d ago, 04:30, 2026-03-01'
complete -c dblock -n '__dblock_is log' -s f -l follow -d 'Go on with what happens from now on'
complete -c dblock -n '__dblock_is log' -l json -d 'Print one JSON object a line (see the manual)'

complete -c dblock -n '__dblock_is hold' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is hold' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is hold' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is hold' -s w -l wait -x -d 'How long to wait for the lock: seconds (2.5), 90s, 5m, 0 (do not wait), forever'
complete -c dblock -n '__dblock_is hold' -s n -l nonblock -d 'Do not wait'
complete -c dblock -n '__dblock_is hold' -l max-retries -x -d 'The longest wait, as a number of retries (50)'
complete -c dblock -n '__dblock_is hold' -l retry-delay -x -d 'The time between two retries (100ms)'
complete -c dblock -n '__dblock_is hold' -s E -l conflict-exit-code -x -d 'The exit code when the lock was not acquired (75)'
complete -c dblock -n '__dblock_is hold' -s s -l shared -d 'Share the lock with other readers'
complete -c dblock -n '__dblock_is hold' -s x -l exclusive -d 'Hold the lock alone (the default)'
complete -c dblock -n '__dblock_is hold' -l priority -x -a 'low normal high' -d 'Who goes first of those who wait: low, normal or high (normal)'
complete -c dblock -n '__dblock_is hold' -s p -l process -x -d 'The label that others see (dblock)'
complete -c dblock -n '__dblock_is hold' -l info -x -d 'What others are to know, in the lock file: a reason, a ticket, an address'
complete -c dblock -n '__dblock_is hold' -l ttl -x -d 'How long etcd keeps the lock of a machine that does not answer (15s)'
complete -c dblock -n '__dblock_is hold' -l no-history -d 'Do not add to the history of the lock'
complete -c dblock -n '__dblock_is hold' -l stale-timeout -x -d 'The age from which a foreign lock may count as abandoned (30s)'
complete -c dblock -n '__dblock_is hold' -l stale -x -a 'dead age' -d 'When it counts as abandoned: \'dead\': when its process has ended; \'age\': whenever it is older than that (dead)'
complete -c dblock -n '__dblock_is hold' -l on-lost -x -a 'term kill warn' -d 'What to do with the shell, and what it has started, when the lock is lost: term, kill or warn (term)'
complete -c dblock -n '__dblock_is hold' -l kill-after -x -d 'How long after SIGTERM to send SIGKILL (10s)'
complete -c dblock -n '__dblock_is hold' -l time-limit -x -d 'How long the lock may be held: 90s, 5m'
complete -c dblock -n '__dblock_is hold' -l on-time-limit -x -a 'term kill warn' -d 'What to do with the shell, and what it has started, when that time is up: term, kill or warn (term)'
complete -c dblock -n '__dblock_is hold' -l for -x -d 'The process that the lock is held for, where it is not the shell that evaluates what this prints'
complete -c dblock -n '__dblock_is hold' -s q -l quiet -d 'Say nothing about waiting; given twice, nothing about giving up and losing the lock either'
complete -c dblock -n '__dblock_is hold' -s v -l verbose -d 'Also say when the lock was acquired, and after how long'

complete -c dblock -n '__dblock_is release' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is release' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is release' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is release' -s q -l quiet -d 'Do not say that there was nothing to release; given twice, nor that the lock was lost'

complete -c dblock -n '__dblock_is session' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is session' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is session' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is session' -s w -l wait -x -d 'How long to wait for a lock: seconds (2.5), 90s, 5m, 0 (do not wait), forever (5s)'
complete -c dblock -n '__dblock_is session' -l priority -x -a 'low normal high' -d 'Who goes first of those who wait: low, normal or high (normal)'
complete -c dblock -n '__dblock_is session' -s p -l process -x -d 'The label that others see (dblock)'
complete -c dblock -n '__dblock_is session' -l info -x -d 'What others are to know, in the lock file: a reason, a ticket, an address'
complete -c dblock -n '__dblock_is session' -l no-history -d 'Do not add to the history of the locks'
complete -c dblock -n '__dblock_is session' -l time-limit -x -d 'How long a lock may be held: 90s, 5m'
complete -c dblock -n '__dblock_is session' -l on-time-limit -x -a 'term kill warn' -d 'What to do with the program, and what it has started, when that time is up: term, kill or warn (term)'
complete -c dblock -n '__dblock_is session' -l kill-after -x -d 'How long after SIGTERM to send SIGKILL (10s)'
complete -c dblock -n '__dblock_is session' -l stale-timeout -x -d 'The age from which a foreign lock may count as abandoned (30s)'
complete -c dblock -n '__dblock_is session' -l stale -x -a 'dead age' -d 'When it counts as abandoned: \'dead\': when its process has ended; \'age\': whenever it is older than that (dead)'

complete -c dblock -n '__dblock_is ls' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is ls' -l stale-timeout -x -d 'The age from which a foreign lock may count as abandoned (30s)'
complete -c dblock -n '__dblock_is ls' -l stale -x -a 'dead age' -d 'When it counts as abandoned: \'dead\': when its process has ended; \'age\': whenever it is older than that (dead)'
complete -c dblock -n '__dblock_is ls' -s a -l all -d 'Also list locks that are free'
complete -c dblock -n '__dblock_is ls' -s x -l one-file-system -d 'Stay out of other filesystems'
complete -c dblock -n '__dblock_is ls' -l json -d 'Print one JSON object (see the manual)'
complete -c dblock -n '__dblock_is ls' -s q -l quiet -d 'Print nothing but errors'
complete -c dblock -n '__dblock_is ls' -l exit-code -d 'Exit with 1 if any is locked'
complete -c dblock -n '__dblock_place ls' -a '(__fish_complete_directories (commandline -ct))'

complete -c dblock -n '__dblock_is doctor' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is doctor' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is doctor' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is doctor' -l json -d 'Print one JSON object (see the manual)'
complete -c dblock -n '__dblock_is doctor' -s v -l verbose -d 'Say of all checks why they matter, also of those that are ok'

complete -c dblock -n '__dblock_is completion' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_place completion' -a 'bash zsh fish'

complete -c dblock -n '__dblock_is stats' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is stats' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is stats' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is stats' -l from -r -F -d 'Read lines of history from a file, or from standard input (-), in place of a database\'s'
complete -c dblock -n '__dblock_is stats' -l since -x -d 'Only what has happened since: 2h or 3d ago, 04:30, 2026-03-01'
complete -c dblock -n '__dblock_is stats' -l until -x -d 'Only what had happened until then'
complete -c dblock -n '__dblock_is stats' -l by -x -a 'process command user host' -d 'Also a table of each process (label), command, user or host'
complete -c dblock -n '__dblock_is stats' -l json -d 'Print one JSON object (see the manual)'
complete -c dblock -n '__dblock_is stats' -l openmetrics -d 'Print metrics, in the text format of Prometheus'
complete -c dblock -n '__dblock_is stats' -s o -l output -r -F -a '(__dblock_behind_letter)' -d 'Where the metrics go; the file is replaced at once'
complete -c dblock -n '__dblock_is stats' -l html -r -F -d 'Write a page with a picture of all that has happened, or print it (-)'
complete -c dblock -n '__dblock_is stats' -l trace -r -F -d 'Write a trace that ui.perfetto.dev shows, or print it (-)'

complete -c dblock -n '__dblock_is top' -s h -l help -d 'Print this help'
complete -c dblock -n '__dblock_is top' -s d -l db -r -F -a '(__dblock_behind_letter)' -d 'The database: a file or a directory, which need not exist'
complete -c dblock -n '__dblock_is top' -l lock-file -r -F -d 'The lock file itself, where its name does not follow from the database\'s'
complete -c dblock -n '__dblock_is top' -l stale-timeout -x -d 'The age from which a foreign lock may count as abandoned (30s)'
complete -c dblock -n '__dblock_is top' -l stale -x -a 'dead age' -d 'When it counts as abandoned: \'dead\': when its process has ended; \'age\': whenever it is older than that (dead)'
complete -c dblock -n '__dblock_is top' -l sort -x -a 'name age waits' -d 'How they are sorted at first: name, age or waits (name)'
complete -c dblock -n '__dblock_is top' -l no-history -d 'Do not add to the history when a lock is forced'
complete -c dblock -n '__dblock_place top' -a '(__fish_complete_directories (commandline -ct))'
