/* The PC's ways to reset by port: 64h (keyboard controller), 92h, cf9h. */
#ifndef DEV_MISC_RESET_PORTS_H
#define DEV_MISC_RESET_PORTS_H

struct machine;

void reset_ports_map(struct machine *machine);

#endif
