#!/bin/sh
# One of the programs of the mixed storm: counts under the lock until its input ends. The
# first argument says how it has the lock.

# work is what is done under the lock; $1 names it.
work() {
	what="$1 $DBLOCK_HOLD_TOKEN $DBLOCK_HOLD_PID"
	echo "B $what" >>"$MIXED_LOG"
	count=$(tail -n 40 "$MIXED_LOG" | sed -n 's/^E .* //p' | tail -n 1)
	sqlite3 -cmd '.timeout 60000' -cmd 'PRAGMA synchronous = OFF' "$MIXED_DB" "INSERT INTO done VALUES ('$1')" >/dev/null || exit 1
	echo "E $what $((count + 1))" >>"$MIXED_LOG"
}

case $1 in
work)
	echo "C $$"
	work "$2"
	exit 0
	;;
esac

n=0
while read -r _; do
	n=$((n + 1))
	id=$MIXED_WHO.$n
	if [ "$1" = hold ]; then
		eval "$("$MIXED_DBLOCK" hold -q -d "$MIXED_DB" -w 60)" || exit 1
		echo "H $DBLOCK_HOLD_PID"
		work "$id"
		"$MIXED_DBLOCK" release -q 2>/dev/null
		code=$?
		# shellcheck disable=SC2046 # a word for each name
		unset $(env | sed -n 's/^\(DBLOCK_HOLD_[A-Z_]*\)=.*/\1/p')
	else
		"$MIXED_DBLOCK" -q -d "$MIXED_DB" -w 60 -- sh "$0" work "$id" 2>/dev/null &
		echo "H $!"
		wait $!
		code=$?
	fi
	case $code in
	0) echo "A $id" ;;
	69 | 137 | 143) echo "F $id" ;;
	*) exit "$code" ;;
	esac
done
