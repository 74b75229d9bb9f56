/* Accelerators and processor models by name: how the program gets its struct machine_cpus. */
#ifndef VMM_CPUS_H
#define VMM_CPUS_H

#include <stdio.h>

struct err;
struct machine_cpus;

/* The canonical name of an accelerator, or NULL with a sentence. */
const char *cpus_accel_name(const char *name, struct err *err);
const struct machine_cpus *cpus_find(const char *accel);
void cpus_accel_help(FILE *out);
void cpus_accel_options_help(FILE *out);
void cpus_model_help(FILE *out);

#endif
