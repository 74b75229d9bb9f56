/* The PC's keyboard controller, with a keyboard and a mouse. */
#ifndef DEV_INPUT_I8042_H
#define DEV_INPUT_I8042_H

struct i8042;
struct irq_pin;
struct machine;

/* Ports 60h and 64h; lines 1 and 12. Input comes from m->display if there is one. */
struct i8042 *i8042_new(struct machine *m, struct irq_pin *keyboard, struct irq_pin *mouse);
void i8042_free(struct i8042 *c);
void i8042_reset(struct i8042 *c);

extern const struct field_set i8042_fields; /* struct i8042 */

#endif
