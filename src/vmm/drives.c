/* -drive. */
#include "vmm/drives.h"

int drives_add(struct machine *m, const struct option_list *drives, struct err *err)
{
    return 0;
}

int drives_add_devices(struct machine *m, struct err *err)
{
    return 0;
}
