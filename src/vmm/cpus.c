/* Accelerators by name. "tcg" is the published name of what our "jit" does. */
#include "vmm/cpus.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/near.h"
#include "core/machine.h"
#include "isa/x86/cpu.h"
#include "jit/jit.h"
#include "jit/options.h"

static int add_x86(struct machine *m, unsigned index, struct err *err)
{
    return jit_add(m, &isa_x86, index, err);
}

static const struct machine_cpus jit_x86 = {
    .add = add_x86,
    .reset = jit_reset,
    .start = jit_start,
    .park = jit_park,
    .unpark = jit_unpark,
    .debug_changed = jit_debug_changed,
    .info = jit_info,
    .leave = jit_leave,
    .free = jit_free,
};

static const struct {
    const char *name, *canonical;
    const struct machine_cpus *cpus;
} accels[] = {
    {"jit", "jit", &jit_x86},
    {"tcg", "jit", &jit_x86},
};

const char *cpus_accel_name(const char *name, struct err *err)
{
    const char *names[ARRAY_LEN(accels)];
    for (size_t i = 0; i < ARRAY_LEN(accels); i++) {
        names[i] = accels[i].name;
        if (!strcmp(names[i], name)) {
            return accels[i].canonical;
        }
    }
    err_set(err, EINVAL, "-accel: there is no accelerator '%s'; the nearest is '%s'", name,
            near_pick(name, names, ARRAY_LEN(names)));
    return NULL;
}

const struct machine_cpus *cpus_find(const char *accel)
{
    for (size_t i = 0; i < ARRAY_LEN(accels); i++) {
        if (!strcmp(accels[i].name, accel)) {
            return accels[i].cpus;
        }
    }
    return NULL;
}

void cpus_accel_help(FILE *out)
{
    fprintf(out, "Accelerators:\n  jit   translation to host code\n  tcg   the same\n");
}

void cpus_accel_options_help(FILE *out)
{
    jit_options_help(out);
}

void cpus_model_help(FILE *out)
{
    isa_x86.model_help(out);
}
