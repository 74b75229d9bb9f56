/* Field sets of parts that many devices contain. */
#ifndef CORE_FIELDS_H
#define CORE_FIELDS_H

#include "state/field.h"

/* A source's line: its level, which the pin then counts. What the line ends in is saved by itself
 * and is not told. Not for a line that ends elsewhere as registers say: its owner connects it first
 * and calls irq_restore(). */
extern const struct field_set irq_fields;

/* A timer: when it fires, in ns of the machine's clock. It is armed again when all is loaded. */
extern const struct field_set timer_fields;

#endif
