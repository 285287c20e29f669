#!/usr/bin/env bash
# Runs the model checker over every configuration of dblock.pml, two at a time.
# "holds": the search is complete and finds nothing. "breaks": an error is found.
# usage: run.sh [WORD]    only the configurations whose name contains WORD
set -eu

model=$(cd "$(dirname "$0")" && pwd)/dblock.pml
only=${1:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

one="-DNPEER=1 -DAPART"                       # one peer
two="-DNPEER=2 -DAPART -DHEAL=2"              # two of them, and nothing is slow
habits="-DP_STALE -DP_EMPTY -DP_GONE"         # what a peer does that is alone
idle="-DCLEAN -DDROUNDS=2"                     # nobody comes any more who would clean up
all="$habits -DP_BREAK -DP_ORPHAN -DP_RM -DHEAL=0 -DLASTLOOK"   # and everything else

configurations() {
	# Among dblocks.
	echo "holds  two-writers           -DCRASH=9 -DRMDIR=1"
	echo "holds  two-readers           -DCRASH=9 -DSHARED=2"
	echo "holds  reader-and-writer     -DCRASH=9 -DSHARED=1"
	echo "holds  two-readers-rmdir     -DCRASH=1 -DRMDIR=1 -DSHARED=2"
	echo "holds  reader-writer-rmdir   -DCRASH=1 -DRMDIR=1 -DSHARED=1"
	echo "holds  three-writers         -DNDBLOCK=3 -DCRASH=9"
	echo "holds  three-writers-rmdir   -DNDBLOCK=3 -DCRASH=1 -DRMDIR=1"
	echo "holds  two-readers-a-writer  -DNDBLOCK=3 -DSHARED=2 -DCRASH=9"
	echo "holds  three-readers         -DNDBLOCK=3 -DSHARED=3 -DCRASH=2"
	echo "holds  two-priorities        -DNDBLOCK=3 -DPRIORITY=2 -DCRASH=2"
	echo "holds  hostile-peer          -DNPEER=1 -DCRASH=1 -DPCRASH -DSTALL $all"
	echo "holds  two-hostile-peers     -DNPEER=2 -DSTALL $all"
	echo "holds  removed-while-held    -DRMLIVE -DRMDIR=1"
	echo "holds  gives-up              -DNDBLOCK=3 -DGIVEUP=2 -DCRASH=1"
	echo "breaks no-room               -DNO_ROOM"
	echo "breaks no-inode-recheck      -DNO_RECHECK -DRMDIR=1 -DNPEER=1 -DP_RM"
	echo "breaks no-room-identity      -DNO_ROOMID -DRMLIVE -DRMDIR=1"
	echo "breaks no-inheritance        -DNO_INHERIT -DCRASH=1"
	echo "breaks unlock-before-unlink  -DUNLOCK_FIRST"
	echo "breaks no-last-out           -DNO_LASTOUT -DSHARED=2"
	echo "breaks no-last-room          -DNO_LASTROOM -DRMDIR=1 -DSHARED=1 -DNPEER=1 -DP_RM"

	# A notice that is left for a successor does not stay.
	echo "holds  left                  $idle -DGIVEUP=1"
	echo "holds  left-three            $idle -DGIVEUP=1 -DNDBLOCK=3"
	echo "holds  left-rmdir            $idle -DRMDIR=1"
	echo "breaks left-no-second-look   $idle -DGIVEUP=1 -DNO_SECONDLOOK"
	echo "breaks left-no-sweep         $idle -DGIVEUP=1 -DNO_SWEEP"
	echo "breaks left-killed           $idle -DCRASH=1"
	echo "holds  left-killed-peer      $idle -DCRASH=1 -DNPEER=1 -DP_STALE"

	# One peer.
	echo "holds  peer                  $one $habits -DPCRASH"
	echo "holds  peer-crash            $one $habits -DPCRASH -DCRASH=9"
	echo "holds  peer-three            $one $habits -DNDBLOCK=3 -DCRASH=1"
	echo "holds  peer-readers          $one $habits -DPCRASH -DSHARED=2 -DCRASH=2"
	echo "holds  peer-reader-writer    $one $habits -DPCRASH -DSHARED=1 -DCRASH=2"
	echo "holds  peer-gives-up         $one $habits -DGIVEUP=2 -DCRASH=1"
	echo "breaks peer-no-room          $one $habits -DNO_ROOM"
	echo "breaks peer-no-verify        $one $habits -DPCRASH -DNO_VERIFY"
	echo "breaks peer-no-heal          $one $habits -DPCRASH -DNO_HEAL"
	echo "breaks peer-no-owner         $one $habits -DPCRASH -DNO_OWNER"
	echo "breaks peer-no-last-out      $one -DNO_LASTOUT -DSHARED=2"
	echo "breaks peer-unlock-first     $one $habits -DPCRASH -DUNLOCK_FIRST"
	echo "breaks peer-slow-heal        $one $habits -DHEAL=0"
	echo "holds  peer-deleted          $one $habits -DPCRASH -DCRASH=1 -DP_RM"
	echo "breaks peer-frozen           $one -DP_RM -DHEAL=0"
	echo "breaks peer-last-look        $one -DP_RM -DLASTLOOK"
	echo "breaks peer-orphan           $one -DP_STALE -DP_ORPHAN -DCRASH=1"
	echo "holds  settle                $one -DP_STALE -DP_EMPTY -DPCRASH -DHEAL=0"
	echo "breaks settle-no-settle      $one -DP_STALE -DP_EMPTY -DPCRASH -DHEAL=0 -DNO_SETTLE"
	echo "holds  settle-crash          $one -DP_STALE -DP_EMPTY -DPCRASH -DHEAL=0 -DCRASH=1"
	echo "breaks settle-no-settle-old  $one -DP_STALE -DP_EMPTY -DPCRASH -DHEAL=0 -DCRASH=1 -DNO_SETTLEOLD"
	echo "breaks settle-no-settle-left $one -DP_STALE -DP_EMPTY -DPCRASH -DHEAL=0 -DCRASH=1 -DNO_SETTLELEFT"
	echo "holds  stall                 $one -DP_STALE -DSTALL"
	echo "breaks stall-no-cas          $one $habits -DPCRASH -DSTALL -DNO_CAS"
	echo "holds  stall-peer-dies       $one $habits -DPCRASH -DSTALL"
	echo "breaks stall-no-put-back     $one $habits -DPCRASH -DSTALL -DNO_PUTBACK"
	echo "holds  stall-crash           $one $habits -DPCRASH -DCRASH=9 -DSTALL"
	echo "breaks stall-no-restore      $one $habits -DCRASH=9 -DSTALL -DNO_RESTORE"

	# Two peers: with none of their habits, and with one at a time.
	echo "holds  peers                 $two -DCRASH=2 -DPCRASH"
	echo "holds  peers-deleted         $two -DCRASH=1 -DP_RM"
	echo "breaks peers-gap             -DNPEER=2 -DAPART -DP_RM"
	echo "breaks peers-stale           $two -DP_STALE -DPCRASH"
	echo "breaks peers-empty           $two -DP_EMPTY"
	echo "breaks peers-late-unlink     $two -DP_GONE"
	echo "breaks peers-30s             $two -DP_BREAK"

	# Who waits is served.
	echo "holds  served                -DLIVE -DNDBLOCK=3 -DCRASH=2"
	echo "holds  served-readers        -DLIVE -DNDBLOCK=3 -DCRASH=1 -DSHARED=2"
	echo "holds  served-priorities     -DLIVE -DNDBLOCK=3 -DCRASH=1 -DPRIORITY=1"
	echo "holds  served-rmdir          -DLIVE -DCRASH=1 -DRMDIR=1"
	echo "holds  served-stopped        -DLIVE -DNDBLOCK=3 -DGIVEUP=1"
	echo "breaks served-no-leave       -DLIVE -DNDBLOCK=3 -DGIVEUP=1 -DNO_LEAVE"
	echo "holds  served-peer           -DLIVE -DNPEER=1 -DROUNDS=2 $habits -DPCRASH -DCRASH=1"
	echo "breaks served-no-queue       -DLIVE -DNO_QUEUE"
	echo "breaks served-peer-always    -DLIVE -DNPEER=1 -DNDBLOCK=1"
	echo "breaks served-ghost          -DLIVE -DNPEER=1 -DNDBLOCK=1 -DROUNDS=3 -DP_STALE -DPCRASH -DSTALL"
}

# check EXPECTED NAME MACRO... prints the line of one configuration.
check() {
	local expected=$1 name=$2 found=broken states seconds
	shift 2
	local dir=$work/$name build="-DSAFETY -DNOFAIR" search="-n -m3000000"
	mkdir "$dir"
	cd "$dir"
	case " $* " in
	*" -DLIVE "* | *" -DCLEAN "*) build="-DNFAIR=3" search="-n -a -f -m3000000" ;;
	esac
	# shellcheck disable=SC2086 # several words each
	if spin "$@" -a "$model" >log 2>&1 &&
		gcc -O1 -w -DCOLLAPSE -DMEMLIM=2500 $build -o pan pan.c >>log 2>&1; then
		./pan $search >>log 2>&1 || true
	fi
	if grep -q 'assertion violated\|acceptance cycle' log; then
		found=breaks
	elif grep -q 'errors: 0' log && ! grep -q 'error:\|out of memory\|not completed' log; then
		found=holds
	fi
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' log)
	seconds=$(sed -n 's/^pan: elapsed time \([0-9.]*\) .*/\1/p' log)
	if [ "$found" = "$expected" ]; then
		printf 'PASS %-6s %-22s %10s states %6s s\n' "$found" "$name" "$states" "$seconds"
	else
		printf 'FAIL %-6s %-22s expected: %s\n' "$found" "$name" "$expected"
		grep -v '^ltl' log | head -n 12 | sed 's/^/     /'
	fi
	cd "$work"
	rm -rf "$dir"
}

running=0
while read -r expected name macros; do
	[[ $name == *"$only"* ]] || continue
	[ "$running" -lt 2 ] || { wait -n; running=$((running - 1)); }
	# shellcheck disable=SC2086 # several words
	check "$expected" "$name" $macros </dev/null | tee -a "$work/lines" &
	running=$((running + 1))
done < <(configurations)
wait

passed=$(grep -c '^PASS' "$work/lines" || true)
failed=$(grep -c '^FAIL' "$work/lines" || true)
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
