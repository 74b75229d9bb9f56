/* MMX, SSE and AVX instructions (Intel SDM Vol. 1 5.4 to 5.14). */
#include "isa/x86/lift.h"

x86_lift_fn *const x86_lift_sse[X86_OP_COUNT] = {0};
