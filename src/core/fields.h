/* Field sets of parts that many devices contain. */
#ifndef CORE_FIELDS_H
#define CORE_FIELDS_H

#include "state/field.h"

/* A source's line: its level, which is driven again when all is loaded. For a line whose device
 * works its level out itself FIELD_DERIVED does as well. */
extern const struct field_set irq_fields;

/* A timer: when it fires, in ns of the machine's clock. It is armed again when all is loaded. */
extern const struct field_set timer_fields;

#endif
