// SPDX-License-Identifier: Apache-2.0
//
// Whom a DFS obeys (docs/design/0009, "Fencing is the DFS's"), and what must hold of it.  Both models include
// this; README.md has the rest.
//
// Whoever includes it defines CSS and DFSS.  A CS's number is its rank by segment_id: the lower one is better.
// The macros that are tested here take a part of the rule away; each has to be found out.

#define NOBODY CSS       // obeyed: no CS
#define NO_ID CSS        // worse than every id

byte obeyed[DFSS];
byte best_epoch[DFSS];   // the best claim that the DFS's process knows of: its epoch,
byte best_id[DFSS];      // and whose it was
byte kept_epoch[DFSS];   // the same in its state file
byte kept_id[DFSS];
byte newest_epoch[DFSS]; // of the proof: the best claim that was ever obeyed; nothing forgets it
byte newest_id[DFSS];

inline fresh(d) {
    obeyed[d] = NOBODY; best_id[d] = NO_ID; kept_id[d] = NO_ID; newest_id[d] = NO_ID
}

#define AS_GOOD(c, e, id, epoch) ((e) > (epoch) || ((e) == (epoch) && (c) <= (id)))

#if defined(EQUAL_FROM_ANYBODY)
#define MAY_CLAIM(c, d, e) ((e) >= best_epoch[d])
#elif defined(LOWER_IF_VACANT)
#define MAY_CLAIM(c, d, e) (obeyed[d] == NOBODY || AS_GOOD(c, e, best_id[d], best_epoch[d]))
#else
#define MAY_CLAIM(c, d, e) AS_GOOD(c, e, best_id[d], best_epoch[d])
#endif

// A HELLO of CS c with ACTIVE and role_epoch e.
inline claims(c, d, e) {
    if
    :: MAY_CLAIM(c, d, e) ->
        assert(AS_GOOD(c, e, newest_id[d], newest_epoch[d])); // never an older one after a newer one
        newest_epoch[d] = e; newest_id[d] = c;
        best_epoch[d] = e; best_id[d] = c;
        obeyed[d] = c;
        printf("DFS %d obeys CS %d with epoch %d\n", d, c, e);
#ifndef WRITTEN_LATER
        write(d)
#endif
    :: else -> waits(c, d) // NOTACTIVE
    fi
}

// A HELLO of CS c without ACTIVE, or the end of its connection.
inline waits(c, d) {
    if
    :: obeyed[d] == c -> obeyed[d] = NOBODY; printf("DFS %d obeys no CS\n", d)
    :: else
    fi
}

inline write(d) {
    kept_epoch[d] = best_epoch[d]; kept_id[d] = best_id[d]
}

// The DFS's process ends, at whatever moment, and begins again.
inline restart(d) {
    obeyed[d] = NOBODY;
    printf("DFS %d starts again\n", d);
#if defined(NOTHING_KEPT)
    best_epoch[d] = 0; best_id[d] = NO_ID
#elif defined(EPOCH_ALONE_KEPT)
    best_epoch[d] = kept_epoch[d]; best_id[d] = NO_ID
#else
    best_epoch[d] = kept_epoch[d]; best_id[d] = kept_id[d]
#endif
}
