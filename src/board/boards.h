/* All boards: an explicit list. */
#ifndef BOARD_BOARDS_H
#define BOARD_BOARDS_H

struct board_type;
struct dev_type;

extern const struct board_type *const boards[]; /* ends with NULL; the first is the default */
extern const struct board_type board_pc, board_q35;
extern const struct dev_type *const dev_types[]; /* what -device can make; ends with NULL */

/* By name or alias; NULL: there is none. */
const struct dev_type *dev_type_find(const char *name);

#endif
