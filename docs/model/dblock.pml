/*
 * The lock protocol of ../protocol.md, for spin.
 *
 * An atomic or d_step block is one system call, with what a process does before
 * the next one that nobody notices. Between two of them anybody else may do
 * anything, and a dblock may be killed.
 *
 * run.sh runs all configurations; README.md says what they mean. The macros:
 *
 *   NDBLOCK=n   dblocks, each of which comes again and again      (default 2)
 *   SHARED=n    the first n of them are readers                   (0)
 *   PRIORITY=n  the first n have normal priority, the others high; undefined:
 *               one turnstile for all
 *   CRASH=n     kill -9, n times; 9: without limit                (0)
 *   RMDIR=n     the state directory is removed, n times           (0)
 *   RMLIVE      and also while the lock is held
 *   GIVEUP=n    one that waits gives up, or is stopped: it leaves the queue, and
 *               comes again, or never; n times                    (0)
 *   DROUNDS=n   a dblock has the lock n times, then stays away    (no limit)
 *   NPEER=n     foreign peers                                     (0)
 *   PCRASH      peers may die as well
 *   ROUNDS=n    a peer takes the lock n times, then stays away    (no limit)
 *
 * Claims, besides the one that holds always, that dblocks exclude each other:
 *
 *   APART       a dblock's command and a peer's transaction never overlap
 *   LIVE        who waits is served; turnstiles are then first come, first served
 *   CLEAN       a notice that was left for a successor does not stay
 *
 * What is supposed of time:
 *
 *   HEAL=0      putting a deleted notice back may take any time
 *       =1      it takes less than the 100 ms after which the peer that has
 *               deleted it looks again                            (default)
 *       =2      it is done before any peer looks
 *   LASTLOOK    a dblock may stand still for as long between its last look at the
 *               notice and the unlink
 *   STALL       a dblock may stand still for more than 100 ms in the middle of
 *               a takeover
 *
 * What peers do to others' files (README.md, "The windows"):
 *
 *   P_STALE     delete the notice of somebody who has died
 *   P_EMPTY     delete an empty file
 *   P_GONE      delete what is at the path because it was not there a moment ago
 *   P_RM        delete the notice of a dblock that lives, or a person does
 *   P_BREAK     delete the file of a peer that lives, after 30 s
 *   P_ORPHAN    delete the notice of a dblock that was killed 30 s ago, while its
 *               command goes on
 *
 * One missing check each: NO_ROOM, NO_RECHECK, NO_INHERIT, NO_CAS, NO_PUTBACK,
 * NO_RESTORE, NO_SETTLE, NO_SETTLEOLD, NO_VERIFY, NO_HEAL, NO_OWNER, NO_LASTOUT,
 * NO_LASTROOM, UNLOCK_FIRST, NO_QUEUE, NO_HANDOVER, NO_SECONDLOOK, NO_SWEEP,
 * NO_SETTLELEFT, NO_ROOMID, NO_LEAVE.
 */

#ifndef NDBLOCK
#define NDBLOCK 2
#endif
#ifndef NPEER
#define NPEER 0
#endif
#ifndef SHARED
#define SHARED 0
#endif
#ifndef CRASH
#define CRASH 0
#endif
#ifndef RMDIR
#define RMDIR 0
#endif
#ifndef HEAL
#define HEAL 1
#endif
#ifndef ROUNDS
#define ROUNDS 99
#endif
#ifndef DROUNDS
#define DROUNDS 99
#endif
#ifndef GIVEUP
#define GIVEUP 0
#endif
#if GIVEUP > 0 || DROUNDS < 99
#define STAYSAWAY
#endif

/*
 * Files. A file is a number, 0 is none. Every process has three numbers, so
 * that its new file is never taken for an old one.
 */
#define FILE(who, n)	(1 + 3 * (who) + (n))
#define OWNER(file)	(((file) - 1) / 3)
#define DBLOCKS(file)	((file) != 0 && OWNER(file) < NDBLOCK)
#define PEERS(file)	((file) != 0 && OWNER(file) >= NDBLOCK)
#define READERS(file)	((file) != 0 && OWNER(file) < SHARED)
#define READER(d)	((d) < SHARED)

byte path;	/* the file that has the notice's name */
byte spare;	/* the file that has the spare name, in the state directory */

bool written[1 + 3 * (NDBLOCK + NPEER)];	/* a peer's file: it was written */
bool gone[1 + 3 * (NDBLOCK + NPEER)];	/* a peer's file: its process has died */
byte left;	/* the file that was left in its place for a successor */
bool aged;	/* and has become old enough for peers to judge */
#if RMDIR > 0
byte roomof[1 + 3 * NDBLOCK];	/* a dblock's: the directory of the room it holds */
#define ROOMOF(file)	roomof[file]
#else
#define ROOMOF(file)	0
#endif

/*
 * The state directory. When it is removed and made again, its files are other
 * inodes: everything that can be locked exists once for each directory.
 */
byte dir;			/* the one that the name stands for */
byte high[RMDIR + 1];		/* who has turnstile-high, plus 1 */
byte room[RMDIR + 1];		/* who has the room exclusively, plus 1 */
byte rooms[RMDIR + 1];		/* who shares it: one bit each */
#ifdef PRIORITY
byte normal[RMDIR + 1];		/* who has turnstile-normal, plus 1 */
#endif
#if defined(LIVE) && !defined(NO_QUEUE)
#define QUEUE
#endif
#ifdef QUEUE
chan queue[RMDIR + 1] = [NDBLOCK] of { byte };	/* for turnstile-high, in order */
chan rqueue[RMDIR + 1] = [NDBLOCK] of { byte };	/* for the room */
#ifdef PRIORITY
chan nqueue[RMDIR + 1] = [NDBLOCK] of { byte };	/* for turnstile-normal */
#endif
#endif

/* The dblocks. */
#define OUT	0
#define WAIT	1	/* from the first turnstile on */
#define IN	2	/* the notice was seen in its place, the command may start */
#define REAPED	3	/* the command has ended */
#define TAKING	5	/* waits, and is taking over */
#define LEAVING	4	/* the notice was seen in its place, and will be unlinked */
byte phase[NDBLOCK];
byte mine[NDBLOCK];	/* the notice that a living dblock keeps fresh */
bool running[NDBLOCK];	/* its command runs, whether or not dblock lives */
bool orphan[NDBLOCK];	/* dblock was killed, its command runs */
bool killed[NDBLOCK];	/* kill -9 is on its way */
byte shows[NDBLOCK];	/* the room at which it shows that it waits or has it, plus 1 */
#if GIVEUP > 0
byte givenup;
#endif

/* The peers. */
#if NPEER > 0
byte its[NPEER];	/* the file that it has created and not unlinked */
bool holds[NPEER];	/* it believes that it has the lock */
bool about[NPEER];	/* it has decided to unlink, and has not done so yet */
#endif

/* The same question for all dblocks, or peers. */
#if NDBLOCK == 1
#define ANY(p)	p(0)
#elif NDBLOCK == 2
#define ANY(p)	(p(0) || p(1))
#elif NDBLOCK == 3
#define ANY(p)	(p(0) || p(1) || p(2))
#endif
#if NPEER == 0
#define ANYPEER(p)	false
#elif NPEER == 1
#define ANYPEER(p)	p(0)
#elif NPEER == 2
#define ANYPEER(p)	(p(0) || p(1))
#endif

/* Somebody waits at the room that we have, or has it after us. */
#define AT(d)		((d) != me && shows[d] == rg + 1)
#define HAS(d)		((d) != me && (room[rg] == (d) + 1 || (rooms[rg] & (1 << (d)))))
/* Somebody is about to take over what was left. That takes less than the seconds
 * after which peers judge it. */
#define COMES(d)	(phase[d] == WAIT || phase[d] == TAKING || phase[d] == LEAVING)
#define BEATS(d)	(mine[d] == seen)

#ifdef NO_ROOMID
#define ELSEWHERE	false
#else
#define ELSEWHERE	(ROOMOF(seen) != rg && ANY(BEATS))
#endif

#define RUNNING(d)	running[d]
#define WRITES(d)	(running[d] && !READER(d))
#define ORPHAN(d)	orphan[d]
#define HOLDS(p)	holds[p]
#define ABOUT(p)	about[p]

/* What takes less than 100 ms: to put a notice back that was deleted, to go from
 * the last look to the unlink, to end a command whose dblock was killed, to take
 * over. A model has no clock: a peer that would have to wait for longer waits until
 * nobody is at it. */
#ifdef P_ORPHAN
#define ENDS(d)		false
#else
#define ENDS(d)		orphan[d]
#endif
#if defined(NO_HEAL) || HEAL == 0
#define HEALS(d)	false
#else
#define HEALS(d)	(phase[d] == IN && path == 0)
#endif
#ifdef LASTLOOK
#define LEAVES(d)	false
#else
#define LEAVES(d)	(phase[d] == LEAVING)
#endif
#define HURRIES(d)	(HEALS(d) || LEAVES(d) || ENDS(d) || STALLS(d))
#ifdef STALL
#define STALLS(d)	false
#else
#define STALLS(d)	(phase[d] == TAKING)
#endif

#if NDBLOCK == 1
#define RUNNERS	running[0]
#elif NDBLOCK == 2
#define RUNNERS	(running[0] + running[1])
#else
#define RUNNERS	(running[0] + running[1] + running[2])
#endif

/*
 * What is promised, looked at whenever somebody begins.
 */
inline alone() {
	/* Among dblocks: one writer, or readers. */
	assert(!ANY(WRITES) || RUNNERS == 1);
#ifdef APART
	assert(!(ANY(RUNNING) && ANYPEER(HOLDS)));
#endif
}

/* renameat2(RENAME_EXCHANGE) of the notice and the spare name. */
byte other;
inline exchange() {
	other = path;
	path = spare;
	spare = other;
	other = 0
}

/*
 * The kernel.
 */
#define MAYSHARE	(room[rg] == 0)
#define MAYHAVE		(room[rg] == 0 && rooms[rg] == 0)

#ifdef QUEUE
#define STANDINLINE	rqueue[rg] ! me
#define MYTURN		rqueue[rg] ? [eval(me)]
#define LEAVELINE	rqueue[rg] ? eval(me)
#else
#define STANDINLINE	skip
#define MYTURN		true
#define LEAVELINE	skip
#endif

inline unlock_room() {
	if
	:: room[rg] == me + 1 -> room[rg] = 0
	:: else -> rooms[rg] = rooms[rg] & ~(1 << me)
	fi
}

inline unlock_turnstiles() {
	if
	:: high[tg] == me + 1 -> high[tg] = 0
	:: else
	fi;
#ifdef PRIORITY
	if
	:: normal[tg] == me + 1 -> normal[tg] = 0
	:: else
	fi;
#endif
}

/* All turnstiles are kept until the notice is in its place. Linux serves flock in
 * the order of arrival. Safety must not depend on that: without LIVE anybody who
 * waits may be next. */
inline pass_turnstiles() {
	d_step {
		tg = dir;
#ifdef QUEUE
#ifdef PRIORITY
		if
		:: me < PRIORITY -> nqueue[tg] ! me
		:: else -> queue[tg] ! me
		fi
#else
		queue[tg] ! me
#endif
#endif
	};
#ifdef PRIORITY
	if
	:: me < PRIORITY ->
#ifdef QUEUE
		atomic { normal[tg] == 0 && nqueue[tg] ? [eval(me)] -> nqueue[tg] ? eval(me); normal[tg] = me + 1 };
		queue[tg] ! me
#else
		atomic { normal[tg] == 0 -> normal[tg] = me + 1 }
#endif
	:: else
	fi;
#endif
#ifdef QUEUE
	atomic { high[tg] == 0 && queue[tg] ? [eval(me)] -> queue[tg] ? eval(me); high[tg] = me + 1 }
#else
	atomic { high[tg] == 0 -> high[tg] = me + 1 }
#endif
}

inline leave_queues() {
#ifdef QUEUE
	if
	:: queue[tg] ?? [eval(me)] -> queue[tg] ?? eval(me)
	:: else
	fi;
	if
	:: rqueue[rg] ?? [eval(me)] -> rqueue[rg] ?? eval(me)
	:: else
	fi;
#ifdef PRIORITY
	if
	:: nqueue[tg] ?? [eval(me)] -> nqueue[tg] ?? eval(me)
	:: else
	fi;
#endif
#endif
	skip
}

/* Whether a reader that has the room for itself is really the last: between the
 * two halves of the conversion somebody may have removed the directory. */
#ifdef NO_LASTROOM
#define LAST	true
#else
#define LAST	(rg == dir)
#endif

/* Whether a file number of ours is still in somebody's mind. */
#define USES0(d)	(mine[d] == FILE(me, 0))
#define USES1(d)	(mine[d] == FILE(me, 1))
#define USES2(d)	(mine[d] == FILE(me, 2))

/*
 * A dblock.
 */
inline give_up() {
	leave_queues();
	unlock_turnstiles();
	tg = 0; rg = 0; shows[me] = 0; phase[me] = OUT
}

/* What a dblock that has gone has left, as its room tells: we have that. */
#define ABANDONEDHERE	(path != 0 && path == left && ROOMOF(path) == rg && room[rg] == me + 1)
inline sweep() {
#ifndef NO_SWEEP
	if
	:: ABANDONEDHERE -> path = 0; left = 0; aged = false
	:: else
	fi;
#endif
	skip
}

proctype Dblock(byte me)
{
	byte tg;	/* the directory whose turnstiles we have open */
	byte rg;	/* the directory whose room we have open */
#if DROUNDS < 99
	byte rounds;
#endif
	byte seen;	/* the notice that is in the way */
	bool unsettled;	/* a peer may be about to unlink what is at the path */

start:	{
#ifdef STAYSAWAY
		if
#if DROUNDS < 99
		:: rounds >= DROUNDS -> goto end_away
		:: rounds < DROUNDS
#else
		:: true
#endif
#if GIVEUP > 0
		:: givenup > 0 -> goto end_away
#endif
		fi;
#endif
		phase[me] = WAIT;
again:		pass_turnstiles();

		/* Between open and flock there is time. */
		d_step { rg = dir; shows[me] = rg + 1; STANDINLINE };
#ifdef NO_ROOM
		skip;
#else
		if
		:: atomic { READER(me) && MAYSHARE && MYTURN ->
			LEAVELINE;
			rooms[rg] = rooms[rg] | (1 << me) }
		:: atomic { !READER(me) && MAYHAVE && MYTURN ->
			LEAVELINE;
			room[rg] = me + 1 }
#if GIVEUP > 0
#ifdef NO_LEAVE
		:: atomic { givenup < GIVEUP -> givenup++ };
			goto end_away
#else
		:: atomic { givenup < GIVEUP -> givenup++; give_up() };
			goto start
#endif
#endif
		fi;
#if GIVEUP > 0
		/* It may have been granted at the moment of giving up. */
		if
		:: atomic { givenup < GIVEUP && !READER(me) -> givenup++; sweep() };
			atomic { unlock_room(); give_up() };
			goto start
		:: true
		fi;
#endif
#endif

#ifndef NO_RECHECK
		/* The directory may have been removed and made again meanwhile: then
		 * others lock another inode, and ours keeps nobody out. */
		if
		:: atomic { rg != dir -> sweep(); unlock_room(); unlock_turnstiles(); rg = 0; tg = 0; shows[me] = 0 };
			goto again
		:: rg == dir
		fi;
#endif

join:		/* Readers share one notice. Under turnstile-high no other reader joins
		 * or publishes, and with the room locked none of those that leave can
		 * be the last and remove it. */
		atomic {
			if
			:: READER(me) && READERS(path) ->
				mine[me] = path;
				goto verify
			:: READER(me) && path == 0 && READERS(spare) ->
				/* A peer has just deleted it. */
				mine[me] = spare;
				path = spare;
				goto verify
			:: else
			fi
		};

#ifndef NO_RESTORE
		/* A dblock that was killed in the middle of a takeover may have left a
		 * living peer's notice under the spare name. */
		atomic {
			if
			:: PEERS(spare) && !gone[spare] && (DBLOCKS(path) || (path != 0 && gone[path])) && !READERS(path) -> exchange()
			:: else
			fi
		};
#endif
prepare:	/* A complete notice under the spare name: no peer ever sees an empty
		 * or half written one of ours, and no crash leaves one behind. */
#ifdef RMLIVE
		if
		:: atomic { rg != dir -> sweep(); unlock_room(); mine[me] = 0; give_up() };
			goto start
		:: true
		fi;
#endif
		atomic {
			spare = 0;
			mine[me] = 0;
			if
			:: path != FILE(me, 0) && !ANY(USES0) -> mine[me] = FILE(me, 0)
			:: else ->
				if
				:: path != FILE(me, 1) && !ANY(USES1) -> mine[me] = FILE(me, 1)
				:: else ->
					assert(path != FILE(me, 2) && !ANY(USES2));
					mine[me] = FILE(me, 2)
				fi
			fi;
			if
			:: left != path || left == mine[me] -> left = 0; aged = false
			:: else
			fi;
#if RMDIR > 0
			roomof[mine[me]] = rg;
#endif
			spare = mine[me]
		};

publish:	atomic {
			if
#ifdef RMLIVE
			:: rg != dir && spare != mine[me] ->
				/* The spare name went with the directory. */
				sweep(); unlock_room(); mine[me] = 0; give_up(); goto start
#endif
			:: path == 0 -> path = spare; goto verify	/* link(2) */
			:: else						/* EEXIST */
			fi
		};

		/* Somebody's notice is in the way: read it, and judge. */
		atomic {
			seen = path;
			if
			:: seen == 0 ->
				/* It vanished. Its reader may be about to delete "it". */
				unsettled = true;
				goto publish
			:: seen == mine[me] ->
				seen = 0;
				goto verify
			:: READER(me) && READERS(seen) ->
				/* Living readers have healed it since we looked. */
				seen = 0;
				goto join
			:: DBLOCKS(seen) && seen != mine[me] && !(READER(me) && READERS(seen)) && ELSEWHERE ->
				/* It has another room, which was removed under it: ours
				 * proves nothing. It beats, so it lives. */
				goto foreign
			:: DBLOCKS(seen) && seen != mine[me] && !(READER(me) && READERS(seen)) && !(ELSEWHERE) ->
				skip
				/* We have its room, so its dblock does not: it has gone. */
			:: PEERS(seen) && gone[seen] ->
				skip
				/* Its process has gone. An empty file is given 2 s, in which
				 * a peer that lives has written it. */
			:: PEERS(seen) && !gone[seen] ->
				/* It lives, however old its notice is. */
				if
				:: !written[seen] -> unsettled = true
				:: else
				fi;
				goto foreign
			fi;
			phase[me] = TAKING
		};

		/* Take over. The judgement may be old by now, so exchange, look at
		 * what came out, and give it back if it is something else. */
		atomic {
			if
			:: path == 0 -> seen = 0; phase[me] = WAIT; goto publish	/* gone by itself */
#ifdef RMLIVE
			:: path != 0 && spare != mine[me] -> seen = 0; phase[me] = WAIT; goto publish
#endif
			:: path != 0 && spare == mine[me] -> exchange()
			fi
		};
#ifndef NO_CAS
		if
		:: atomic { spare != seen || (PEERS(spare) && !gone[spare]) -> seen = 0 };
			goto putback
		:: spare == seen && (DBLOCKS(spare) || gone[spare])
		fi;
#endif
		/* A peer that has judged the same notice may be about to unlink
		 * what it believes to be that. */
		atomic {
			if
#ifdef NO_SETTLEOLD
			:: PEERS(seen) -> unsettled = true
			:: else
#else
#ifdef NO_SETTLELEFT
			:: seen == left
#else
			:: seen == left && !aged
#endif
			:: else -> unsettled = true
#endif
			fi;
			if
			:: seen == left -> left = 0; aged = false
			:: else
			fi;
#if RMDIR > 0
			if
			:: DBLOCKS(seen) && !ANY(BEATS) -> roomof[seen] = 0
			:: else
			fi;
#endif
			seen = 0;
			phase[me] = WAIT;
			spare = 0
		};
		atomic {
			if
			:: path == mine[me] -> spare = path
			:: else
			fi
		};
		goto verify;

putback:	atomic {
			phase[me] = WAIT;
			if
			:: path != 0 -> exchange()
			:: else -> path = spare; goto prepare
			fi
		};
#ifndef NO_PUTBACK
		/* Ours must come out. If not, somebody has put his there meanwhile. */
		atomic {
			if
			:: spare != mine[me] && PEERS(spare) && !gone[spare] -> goto putback
			:: else
			fi
		};
#endif
		atomic {
			if
			:: spare == mine[me] -> goto publish
			:: else -> goto prepare
			fi
		};

foreign:	/* Wait for a change: the file's, or its holder's. */
		atomic { path != seen || gone[seen] || (DBLOCKS(seen) && !ANY(BEATS)) -> seen = 0 };
		goto publish;

verify:
#ifndef NO_SETTLE
		/* A peer that was about to unlink has done so after 25 to 60 ms. */
		atomic { !unsettled || !ANYPEER(ABOUT) -> unsettled = false };
#endif
#ifdef NO_VERIFY
		phase[me] = IN;
#else
		/* Whatever a peer has unlinked since we published, it was not ours if
		 * ours is there now. */
		if
		:: atomic { path == mine[me] -> phase[me] = IN; unsettled = false }
		:: atomic { path != mine[me] ->
			unsettled = true;
			if
			:: READER(me) -> goto join
			:: spare == mine[me] -> goto publish
			:: else -> goto prepare
			fi }
		fi;
#endif
		/* Now that the notice is there the next one may come near it. */
		d_step { unlock_turnstiles(); tg = 0 };

		atomic { running[me] = true; alone() };

		do
#ifdef RMLIVE
		:: atomic { rg != dir -> running[me] = false };
			break		/* lost: the directory was removed */
#endif
#ifndef NO_HEAL
		:: atomic { path == 0 && spare == mine[me] -> path = spare }
#endif
		:: atomic { path != 0 && path != mine[me] -> running[me] = false };
			break		/* lost: the command is ended */
		:: running[me] = false;
			break		/* it has ended by itself */
		od;

		phase[me] = REAPED;
		if
		:: READER(me) ->
			/* The conversion gives up the shared lock before it asks for
			 * the other: whoever waits may be quicker. */
			rooms[rg] = rooms[rg] & ~(1 << me);
#ifdef NO_LASTOUT
			skip
#else
			if
			:: atomic { MAYHAVE && LAST -> room[rg] = me + 1 }
			:: atomic { !(MAYHAVE && LAST) -> mine[me] = 0; rg = 0; shows[me] = 0; phase[me] = OUT };
				goto start
			fi
#endif
		:: else
		fi;

#ifdef UNLOCK_FIRST
		d_step { unlock_room() };
#endif
		/* Remove the notice if it is ours. The look and the unlink are two
		 * system calls. */
		if
#ifdef NO_OWNER
		:: true -> path = 0
#else
#ifndef NO_HANDOVER
		:: atomic { !READER(me) && path == mine[me] && ANY(AT) ->
			/* Somebody waits: the notice is left in its place for him to
			 * exchange, and the path is never free. */
			phase[me] = LEAVING;
			left = mine[me]; aged = false };
			goto hand
#endif
		:: atomic { path == mine[me] -> phase[me] = LEAVING };
			atomic {
				/* Of this kernel nobody else can have published. */
#ifndef RMLIVE
				assert(path == mine[me] || !DBLOCKS(path));
#endif
				path = 0
			}
		:: path != mine[me]
#endif
		fi;
		atomic {
			phase[me] = REAPED;
			if
			:: spare == mine[me] -> spare = 0
			:: else
			fi
		};
		/* Only now: unlocked before, the next one would find the notice of a
		 * hold that is over, and we might unlink its. */
		d_step {
			unlock_room();
#if RMDIR > 0
			if
			:: path != mine[me] -> roomof[mine[me]] = 0
			:: else
			fi;
#endif
			rg = 0; shows[me] = 0; mine[me] = 0; phase[me] = OUT
		};
#if DROUNDS < 99
		rounds++;
#endif
		goto start;

#ifndef NO_HANDOVER
hand:		atomic {
			if
			:: spare == mine[me] -> spare = 0
			:: else
			fi
		};
		d_step { unlock_room(); shows[me] = 0; mine[me] = 0 };
		/* Until he who was to come has the room, or has given up. */
#ifndef NO_SECONDLOOK
		if
		:: ANY(HAS)
		:: atomic { !ANY(AT) && MAYHAVE -> room[rg] = me + 1 };
			atomic { sweep() };
			unlock_room()
		:: atomic { !ANY(AT) && !(MAYHAVE) }
		fi;
#endif
		d_step { rg = 0; phase[me] = OUT };
#if DROUNDS < 99
		rounds++;
#endif
		goto start;
#endif
#ifdef STAYSAWAY
end_away:	false
#endif
	} unless { killed[me] };

	/* kill -9. The kernel takes back what nobody else has open: the command
	 * has inherited the room. The notice stays. */
	atomic {
		killed[me] = false;
		phase[me] = OUT;
		mine[me] = 0;
		seen = 0;
		unsettled = false;
		leave_queues();
		unlock_turnstiles();
		tg = 0;
		shows[me] = 0;
#if DROUNDS < 99
		rounds = DROUNDS;
#endif
		if
		:: running[me] ->
			orphan[me] = true;
#ifdef NO_INHERIT
			unlock_room()
#endif
		:: else -> unlock_room(); rg = 0
		fi
	};
	if
	:: atomic { running[me] -> running[me] = false; orphan[me] = false; unlock_room(); rg = 0 }
	:: atomic { !running[me] -> skip }
	fi;
	goto start
}

/*
 * The peer. What it reads may change before it acts on it, and it never looks
 * whose file it unlinks.
 */
#if NPEER > 0

/* Peers see age only, and nobody beats any more what a dead one has left. */
#define KEEPS(d)	(mine[d] == file)
#ifdef STALL
#define OLDENOUGH	true
#else
#define OLDENOUGH	(file != left || !ANY(COMES))
#endif
#ifdef P_ORPHAN
#define ABANDONED	(DBLOCKS(file) && !ANY(KEEPS) && OLDENOUGH)
#else
#define ABANDONED	(DBLOCKS(file) && !ANY(KEEPS) && !ANY(ORPHAN) && OLDENOUGH)
#endif
/* A living peer's: it has released, and something has brought the file back. */
#define LEFTOVER	(PEERS(file) && written[file] && its[OWNER(file) - NDBLOCK] != file)

#if HEAL < 2
#define MAYLOOK	(!waits || !ANY(HURRIES))
#else
#define MAYLOOK	(!ANY(HURRIES))
#endif

#if ROUNDS < 99
#define COUNTROUND	rounds++
#else
#define COUNTROUND	skip
#endif

proctype Peer(byte me)
{
	byte file;	/* what it has found */
	byte rounds;	/* how often it has had the lock */
	bool waits;	/* it has unlinked a file 100 ms ago */

try:	if
	:: atomic { path == 0 && MAYLOOK && rounds < ROUNDS ->
		/* open(O_CREAT|O_EXCL): the file is empty. */
		its[me] = (spare == FILE(NDBLOCK + me, 0) -> FILE(NDBLOCK + me, 1) : FILE(NDBLOCK + me, 0));
		path = its[me];
		written[path] = false;
		gone[path] = false;
		COUNTROUND;
		waits = false }
	:: atomic { path != 0 && rounds < ROUNDS -> waits = false };
		goto busy
	fi;
	if
	:: written[its[me]] = true
#ifdef PCRASH
	:: goto dies
#endif
	fi;
	atomic {
		holds[me] = true;
		alone()
	};
	if
	:: holds[me] = false
#ifdef PCRASH
	:: goto dies
#endif
	fi;
	atomic { path = 0; its[me] = 0 };	/* whosever it is */
	goto try;

busy:	atomic {
		file = path;
		if
#ifdef P_GONE
		:: file == 0 -> about[me] = true
#endif
#ifdef P_EMPTY
		:: PEERS(file) && !written[file] -> about[me] = true
#endif
#ifdef P_STALE
		:: ABANDONED -> about[me] = true; aged = (file == left)
		:: PEERS(file) && gone[file] -> about[me] = true
		:: LEFTOVER -> about[me] = true
#endif
#ifdef P_RM
		:: DBLOCKS(file) -> path = 0; file = 0; waits = true; goto try
#endif
#ifdef P_BREAK
		:: PEERS(file) && written[file] -> about[me] = true
#endif
		:: else -> file = 0; goto try
		fi;
		file = 0
	};
	atomic { path = 0; about[me] = false; waits = true };	/* whosever it is */
	goto try;

#ifdef PCRASH
dies:	atomic {
		holds[me] = false;
		its[me] = 0;
		gone[FILE(NDBLOCK + me, 0)] = true;
		gone[FILE(NDBLOCK + me, 1)] = true
	};
	goto try
#endif
}
#endif

/*
 * kill -9, at any moment.
 */
#if CRASH > 0
byte kills;
#define MAYDIE(d)	(phase[d] != OUT && !killed[d])
#if CRASH < 9
#define COUNT		kills++
#else
#define COUNT		skip
#endif

proctype Killer()
{
end:	do
	:: atomic { kills < CRASH && MAYDIE(0) -> killed[0] = true; COUNT }
#if NDBLOCK > 1
	:: atomic { kills < CRASH && MAYDIE(1) -> killed[1] = true; COUNT }
#endif
#if NDBLOCK > 2
	:: atomic { kills < CRASH && MAYDIE(2) -> killed[2] = true; COUNT }
#endif
	od
}
#endif

/*
 * Somebody removes the state directory while nobody holds the lock: a dblock
 * that has created it and given up, after it has locked the room and looked.
 */
#if RMDIR > 0
proctype Remover()
{
	do
#ifdef RMLIVE
	:: atomic { dir < RMDIR -> dir++; spare = 0 }
#else
	:: atomic { dir < RMDIR && room[dir] == 0 && rooms[dir] == 0 -> dir++ }
#endif
	:: dir == RMDIR -> break
	od
}
#endif

init {
	atomic {
		byte i;
		for (i : 0 .. NDBLOCK - 1) { run Dblock(i) }
#if NPEER > 0
		for (i : 0 .. NPEER - 1) { run Peer(i) }
#endif
#if CRASH > 0
		run Killer();
#endif
#if RMDIR > 0
		run Remover();
#endif
		i = 0
	}
}

#ifdef CLEAN
#define leftbehind	(path != 0 && path == left)
ltl clean { [] (leftbehind -> <> !leftbehind) }
#endif
#ifdef LIVE
#define waiting	(phase[0] == WAIT || phase[0] == TAKING)
ltl granted { [] (waiting -> <> !waiting) }
#endif
