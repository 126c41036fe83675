// SPDX-License-Identifier: Apache-2.0
//
// Fencing does not depend on the election, on time, or on what CSs know: one DFS, and CSs that may claim any
// epoch at any moment.  README.md says what is modelled and how to run it.

#ifndef CSS
#define CSS 2
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#define DFSS 1 // see README.md: one stands for any number

#include "obeying.pml"

#define NOTHING 0
#define STANDBY (EPOCHS + 1)

// Of the connection between each CS and the DFS.
bit open_at_cs[CSS];  // each end learns by itself that it is over
bit open_at_dfs[CSS];
byte hello[CSS];      // on its way to the DFS: NOTHING, the epoch of a claim, or STANDBY
byte epoch[CSS];      // of the last claim on this connection: there they only rise
byte reply[CSS];      // a REPLY on its way: NOTHING, or the epoch in which it was decided
byte other_epoch[CSS]; // of the proof: the highest epoch in which another CS was obeyed

inline end_at_dfs(c) {
    open_at_dfs[c] = 0; hello[c] = NOTHING; reply[c] = NOTHING; // its key is forgotten: nothing opens the seal
    waits(c, 0)
}

// Another CS is obeyed now.
inline note_others(c) {
    i = 0;
    do
    :: i < CSS ->
        if
        :: i != c -> other_epoch[i] = best_epoch[0]
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

// A CS that crashes ends its connections, and forgets: it may claim any epoch afterwards, as always.  One that
// hangs does nothing for a while, and what it sent goes on its way.
proctype cs(byte c) {
    byte e, i;
end:
    do
    :: d_step { !open_at_cs[c] && !open_at_dfs[c] -> open_at_cs[c] = 1; open_at_dfs[c] = 1 }
    :: d_step { open_at_cs[c] -> open_at_cs[c] = 0; epoch[c] = NOTHING }
    :: d_step { open_at_dfs[c] -> end_at_dfs(c) }

    :: atomic { open_at_cs[c] && open_at_dfs[c] && hello[c] == NOTHING -> // it says HELLO: anything
        select(e : (epoch[c] == NOTHING -> 1 : epoch[c]) .. STANDBY);
        hello[c] = e;
        if
        :: e != STANDBY -> epoch[c] = e
        :: else
        fi;
        e = 0 }
    :: d_step { open_at_dfs[c] && hello[c] == STANDBY -> hello[c] = NOTHING; waits(c, 0) }
    :: d_step { open_at_dfs[c] && hello[c] != NOTHING && hello[c] != STANDBY ->
#ifndef OLD_REPLIES
        if // no datagram outlives two take-overs
        :: obeyed[0] != c -> reply[c] = NOTHING
        :: else
        fi;
#endif
        claims(c, 0, hello[c]);
        hello[c] = NOTHING;
        if
        :: obeyed[0] == c -> note_others(c)
        :: else
        fi }

    :: d_step { open_at_cs[c] && open_at_dfs[c] && reply[c] == NOTHING && epoch[c] != NOTHING ->
        reply[c] = epoch[c] } // it decides
    :: d_step { reply[c] != NOTHING -> // the REPLY arrives, long after or before the HELLOs around it
        if
        :: obeyed[0] == c -> // it is carried out
            assert(best_epoch[0] == newest_epoch[0] && c == newest_id[0]);
            assert(reply[c] >= other_epoch[c])
        :: else
        fi;
        reply[c] = NOTHING }
    :: d_step { reply[c] != NOTHING -> reply[c] = NOTHING } // it is lost
    od
}

proctype dfs() {
    byte i;
end:
    do
    :: d_step { true -> // it is started again
        restart(0);
        i = 0;
        do
        :: i < CSS -> end_at_dfs(i); i++
        :: else -> break
        od;
        i = 0 }
#ifdef WRITTEN_LATER
    :: d_step { true -> write(0) }
#endif
    od
}

init {
    byte c;
    atomic {
        fresh(0);
        run dfs();
        do
        :: c < CSS -> run cs(c); c++
        :: else -> break
        od
    }
}
