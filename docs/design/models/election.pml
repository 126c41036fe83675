// SPDX-License-Identifier: Apache-2.0
//
// The election converges: from whatever the CSs and DFSs have come to while things failed, once nothing fails
// any more, one CS is active, every DFS obeys it, and no CS claims again.  README.md says what is modelled, what
// is left out, and how to run it.

#ifndef CSS
#define CSS 2 // or 3
#endif
#ifndef DFSS
#define DFSS 2 // 1 to 3
#endif
#ifndef EPOCHS
#define EPOCHS 2 // of what is known at the beginning
#endif
#define LIMIT (EPOCHS + 2 * CSS) // no claim goes higher than that, or they might claim for ever

#include "obeying.pml"

#define LINKS (CSS * DFSS)
#define L(c, d) ((c) * DFSS + (d))

mtype { STANDBY, CLAIMING, ACTIVE };
mtype { UNKNOWN, FREE, LOW, OURS, TAKEN };

mtype role[CSS];
byte epoch[CSS];      // of its claim; 0: it claims nothing
byte next[CSS];       // of its next claim: one higher than any that it has heard of
mtype view[LINKS];    // what the DFS has said since the CS's role changed
bit hello_due[LINKS]; // the DFS has not heard what the CS says now
bit claimed[LINKS];   // what the DFS has heard: the CS claims

// What fails, and stays so.
bit cut[LINKS];       // there is no connection
bit apart[CSS * CSS]; // no heartbeats go from CS to CS
byte hung = NOBODY;   // this CS does nothing more; its connections look alive
byte reach[CSS];      // how many DFSs are connected

byte i;

#define CLAIMS(c) (role[c] != STANDBY)

inline become(c, new) {
    role[c] = new;
    printf("CS %d: %e, epoch %d\n", c, role[c], epoch[c]);
    i = 0;
    do
    :: i < DFSS -> view[L(c, i)] = UNKNOWN; hello_due[L(c, i)] = !cut[L(c, i)]; i++
    :: else -> break
    od;
    i = 0
}

inline claim(c) {
    epoch[c] = next[c];
    assert(epoch[c] <= LIMIT);
    become(c, CLAIMING)
}

inline step_down(c) {
    epoch[c] = 0;
    become(c, STANDBY)
}

// --- the rules, as docs/design/0009 has them -----------------------------------------------------------

#if DFSS == 1
#define SOME_DFS(P, c, v) P(c, v, 0)
#define EVERY_DFS(P, c, v) P(c, v, 0)
#elif DFSS == 2
#define SOME_DFS(P, c, v) (P(c, v, 0) || P(c, v, 1))
#define EVERY_DFS(P, c, v) (P(c, v, 0) && P(c, v, 1))
#else
#define SOME_DFS(P, c, v) (P(c, v, 0) || P(c, v, 1) || P(c, v, 2))
#define EVERY_DFS(P, c, v) (P(c, v, 0) && P(c, v, 1) && P(c, v, 2))
#endif
#if CSS == 2
#define SOME_CS(P, c) (P(c, 0) || P(c, 1))
#define EVERY_CS(P, c) (P(c, 0) && P(c, 1))
#else
#define SOME_CS(P, c) (P(c, 0) || P(c, 1) || P(c, 2))
#define EVERY_CS(P, c) (P(c, 0) && P(c, 1) && P(c, 2))
#endif

// A DFS that is TAKEN by a hung CS relays no heartbeats: it counts as vacant.
#define IS_SILENT(l, d) (view[l] == TAKEN && hung != NOBODY && obeyed[d] == hung)
#define SAYS(c, v, d) (!cut[L(c, d)] && (view[L(c, d)] == v || (v == FREE && IS_SILENT(L(c, d), d))))
#define SAYS_OR_CUT(c, v, d) (cut[L(c, d)] || SAYS(c, v, d))
#define SOME(v, c) SOME_DFS(SAYS, c, v)
#define EVERY(v, c) (reach[c] > 0 && EVERY_DFS(SAYS_OR_CUT, c, v))

#define ENOUGH(c) (2 * reach[c] >= DFSS && reach[c] > 0)
#define RELAYS(c, o, d) (!cut[L(c, d)] && !cut[L(o, d)] && obeyed[d] == (o))
#define IS_NEAR(c, o) ((c) != (o) && (o) != hung && !apart[(c) * CSS + (o)])
#define HEARS(c, o) ((c) != (o) && (o) != hung && (IS_NEAR(c, o) || SOME_DFS(RELAYS, c, o)))

#define SAYS_ACTIVE(c, o) (IS_NEAR(c, o) && role[o] == ACTIVE)
#define HEARS_ACTIVE(c, o) (HEARS(c, o) && role[o] == ACTIVE)
#if CSS == 2
#define IS_ACTIVE(c, o) HEARS_ACTIVE(c, o)
#else // of two it is the one with the higher epoch
#define THIRD(c, o) (3 - (c) - (o))
#define IS_ACTIVE(c, o) (HEARS_ACTIVE(c, o) && !(HEARS_ACTIVE(c, THIRD(c, o)) && epoch[THIRD(c, o)] > epoch[o]))
#endif
#ifdef EQUAL_IS_BETTER
#define REACHES_FEWER(c, o) (IS_ACTIVE(c, o) && reach[o] <= reach[c])
#else
#define REACHES_FEWER(c, o) (IS_ACTIVE(c, o) && reach[o] < reach[c])
#endif
#define REACHES_AS_MANY(c, o) (IS_ACTIVE(c, o) && epoch[o] > epoch[c] && reach[o] >= reach[c])
#define REACHES_MORE(c, o) (HEARS(c, o) && reach[o] > reach[c])
#define GOES_FIRST(c, o) \
    (HEARS(c, o) && role[o] != ACTIVE && (reach[o] > reach[c] || (reach[o] == reach[c] && (o) < (c))))

#define NOBODY_IS(c) (ENOUGH(c) && EVERY(FREE, c) && !SOME_CS(SAYS_ACTIVE, c))
#define IS_FREE(c, v, d) (cut[L(c, d)] || view[L(c, d)] == FREE)
#ifdef SPLIT_IGNORED
#define NOBODY_IS_LEFT(c) false
#else
#define NOBODY_IS_LEFT(c) (ENOUGH(c) && EVERY_DFS(IS_FREE, c, FREE))
#endif
#define IS_BETTER(c) (ENOUGH(c) && SOME(FREE, c) && SOME_CS(REACHES_FEWER, c) && !SOME_CS(GOES_FIRST, c))
#define YIELDS(c) (SOME(TAKEN, c) && SOME_CS(REACHES_AS_MANY, c))
#define IS_CUT_OFF(c) (!ENOUGH(c) && ((!SOME_CS(HEARS, c) && reach[c] > 0) || SOME_CS(REACHES_MORE, c)))

// What lasts longer than a message takes waits until no message is on its way: then timeout is true.
#ifdef HASTY
#define AFTER_VACANT true // several may claim at once
#else
#define AFTER_VACANT timeout
#endif

proctype cs(byte c) {
end:
    do
    :: atomic { c != hung && role[c] == STANDBY && NOBODY_IS(c) && AFTER_VACANT -> claim(c) }
    :: atomic { c != hung && role[c] == STANDBY && NOBODY_IS_LEFT(c) && timeout -> claim(c) }
    :: atomic { c != hung && role[c] == STANDBY && IS_BETTER(c) && timeout -> claim(c) }
    :: atomic { c != hung && role[c] == ACTIVE && YIELDS(c) && timeout -> step_down(c) }
    :: atomic { c != hung && role[c] == ACTIVE && IS_CUT_OFF(c) && timeout -> step_down(c) }
    od
}

// --- HELLOs ----------------------------------------------------------------------------------------------

// What a HELLO of the DFS means to the CS.  UNKNOWN: the DFS has not heard the CS's claim yet.
#ifdef LATE_ANSWERS
#define IS_LATE(c, d) false
#else
#define IS_LATE(c, d) (best_epoch[d] < epoch[c])
#endif
#define IS_REFUSED(c, d) (claimed[L(c, d)] && obeyed[d] != c)
#define MEANING(c, d) \
    (!CLAIMS(c) -> (obeyed[d] == NOBODY -> FREE : TAKEN) : \
    (IS_LATE(c, d) -> UNKNOWN : \
    (IS_REFUSED(c, d) -> (obeyed[d] == NOBODY -> LOW : TAKEN) : \
    (obeyed[d] == NOBODY || best_epoch[d] < epoch[c] -> UNKNOWN : \
    (best_epoch[d] == epoch[c] -> OURS : TAKEN)))))
#define IS_NEWS(c, d) ((MEANING(c, d) != UNKNOWN && MEANING(c, d) != view[L(c, d)]) || best_epoch[d] >= next[c])

proctype link(byte c; byte d) {
    byte l = L(c, d);
end:
    do
    :: d_step { hello_due[l] -> // a HELLO of the CS arrives
        hello_due[l] = 0;
        claimed[l] = CLAIMS(c);
        printf("DFS %d hears CS %d: %e, epoch %d\n", d, c, role[c], epoch[c]);
        if
        :: CLAIMS(c) -> claims(c, d, epoch[c])
        :: else -> waits(c, d)
        fi }
    :: d_step { c != hung && !cut[l] && IS_NEWS(c, d) -> // a HELLO of the DFS arrives
        if
        :: best_epoch[d] >= next[c] -> next[c] = best_epoch[d] + 1
        :: else
        fi;
        if
        :: MEANING(c, d) != UNKNOWN -> view[l] = MEANING(c, d)
        :: else
        fi;
        printf("CS %d hears DFS %d: %e, epoch %d\n", c, d, view[l], best_epoch[d]);
        if
#ifndef LOW_IGNORED
        :: view[l] == LOW -> claim(c)
#endif
        :: role[c] == CLAIMING && view[l] == OURS -> role[c] = ACTIVE; printf("CS %d: ACTIVE\n", c)
        :: CLAIMS(c) && EVERY(TAKEN, c) -> step_down(c)
        :: else
        fi }
    :: atomic { c == hung && obeyed[d] == c && timeout -> waits(c, d) } // the DFS has waited for it in vain
    od
}

// --- what must hold in the end -----------------------------------------------------------------------------

#define IS_OBEYED(c, o, d) (obeyed[d] == (o))
#define OBEYS_ONE(c, v, d) \
    (obeyed[d] != NOBODY && obeyed[d] != hung && role[obeyed[d]] == ACTIVE && epoch[obeyed[d]] == best_epoch[d])
#define FITS(c, v, d) (obeyed[d] == NOBODY || OBEYS_ONE(c, v, d))
#define IS_SETTLED(c, o) ((o) == hung || role[o] == STANDBY || reach[o] == 0 || \
    (role[o] == ACTIVE && SOME_DFS(IS_OBEYED, c, o)))
#define COULD_SERVE(d, o) ((o) != hung && ENOUGH(o) && !cut[L(o, d)])
#define IS_LEFT(c, v, d) (SOME_CS(COULD_SERVE, d) && !OBEYS_ONE(c, v, d))
#define HAS_ANY(c, v, d) SOME_CS(COULD_SERVE, d)
#if DFSS == 3 // 0009 says which one may be left
#define IS_SERVED (!SOME_DFS(HAS_ANY, 0, 0) || SOME_DFS(OBEYS_ONE, 0, 0))
#else
#define IS_SERVED (!SOME_DFS(IS_LEFT, 0, 0))
#endif

#define RUNS_AS(c, r) (c != hung && role[c] == r)
#if CSS == 2
#define COUNT(r) (RUNS_AS(0, r) + RUNS_AS(1, r))
#else
#define COUNT(r) (RUNS_AS(0, r) + RUNS_AS(1, r) + RUNS_AS(2, r))
#endif

// It has no end label: if nothing can happen any more and this does not hold, spin reports an invalid end state.
proctype quiet() {
#ifdef PARTS
    timeout && EVERY_CS(IS_SETTLED, 0) && EVERY_DFS(FITS, 0, 0) && IS_SERVED
#else
    timeout && COUNT(ACTIVE) == 1 && COUNT(CLAIMING) == 0 && EVERY_DFS(OBEYS_ONE, 0, 0)
#endif
}

// --- how it may have begun ---------------------------------------------------------------------------------

#define IN_ORDER(a, b) (best_epoch[a] < best_epoch[b] || (best_epoch[a] == best_epoch[b] && \
    (best_id[a] < best_id[b] || (best_id[a] == best_id[b] && obeyed[a] <= obeyed[b]))))

init {
    byte c, d, n;
    atomic {
#ifdef HUNG
        select(n : 0 .. CSS - 1); hung = n;
#endif
#ifdef PARTS
        do
        :: c < LINKS -> select(n : 0 .. 1); cut[c] = n; c++
        :: else -> break
        od;
        c = 0;
        do
        :: c < CSS ->
            do
            :: d < c -> select(n : 0 .. 1); apart[c * CSS + d] = n; apart[d * CSS + c] = n; d++
            :: else -> break
            od;
            d = 0; c++
        :: else -> break
        od;
        c = 0;
#endif
        do
        :: d < DFSS -> // what it remembers, and whom it obeys
            fresh(d);
            if
            :: true // it is new
            :: select(n : 1 .. EPOCHS); best_epoch[d] = n;
                select(n : 0 .. CSS - 1); best_id[d] = n;
                if
                :: true
                :: !cut[L(best_id[d], d)] -> obeyed[d] = best_id[d]; claimed[L(best_id[d], d)] = 1
                fi
            fi;
            write(d);
            newest_epoch[d] = best_epoch[d]; newest_id[d] = best_id[d];
#ifndef PARTS
            if
            :: d > 0 && !IN_ORDER(d - 1, d) -> goto end_of_twin // the same, with other numbers of the DFSs
            :: else
            fi;
#endif
            d++
        :: else -> break
        od;
        do
        :: c < CSS -> // its role, and what it has heard
            if
            :: role[c] = STANDBY
            :: role[c] = CLAIMING
            :: role[c] = ACTIVE
            fi;
            if
            :: CLAIMS(c) -> select(n : 1 .. EPOCHS); epoch[c] = n
            :: else
            fi;
            select(n : (epoch[c] == 0 -> 1 : epoch[c]) .. EPOCHS + 1); next[c] = n;
            d = 0;
            do
            :: d < DFSS ->
                view[L(c, d)] = UNKNOWN;
                reach[c] = reach[c] + !cut[L(c, d)];
                hello_due[L(c, d)] = !cut[L(c, d)] && c != hung;
                d++
            :: else -> break
            od;
            c++
        :: else -> break
        od;
        run quiet();
        c = 0;
        do
        :: c < CSS ->
            run cs(c);
            d = 0;
            do
            :: d < DFSS -> run link(c, d); d++
            :: else -> break
            od;
            c++
        :: else -> break
        od;
        c = 0; d = 0; n = 0
    }
end_of_twin:
    false
}
