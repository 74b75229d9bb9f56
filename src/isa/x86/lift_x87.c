/* x87 instructions (Intel SDM Vol. 1 5.2). */
#include "isa/x86/lift.h"

x86_lift_fn *const x86_lift_x87[X86_OP_COUNT] = {0};
