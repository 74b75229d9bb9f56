/* ACPI tables of the microvm board. */
#ifndef BOARD_MICROVM_ACPI_H
#define BOARD_MICROVM_ACPI_H

#include "base/strbuf.h"
#include "board/microvm.h"

/* All tables as they shall lie at `base`; the RSDP is the first. */
void microvm_build_acpi(const struct microvm *v, uint64_t base, struct strbuf *out);

#endif
