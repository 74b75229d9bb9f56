/* ACPI tables of the pc board. */
#include "board/pc.h"

int pc_add_acpi(struct pc *pc, struct err *err)
{
    return 0;
}
