/* ACPI's tables of processors and nodes, of every board. */
#ifndef BOARD_ACPI_CPUS_H
#define BOARD_ACPI_CPUS_H

#include <stdbool.h>
#include <stddef.h>

struct machine;
struct strbuf;
struct x86_board;

/* MADT's entries of local APICs; those of processors that could be added say that they are off. */
void acpi_madt_add_cpus(struct strbuf *sb, const struct machine *m);
/* SRAT and SLIT, with nodes; the latter if distances were given. Where each begins. */
size_t acpi_build_srat(struct strbuf *sb, const struct x86_board *b);
size_t acpi_build_slit(struct strbuf *sb, const struct machine *m);

#endif
