/* Virtual-8086 mode: placeholder of the build while it is written. */
#include "rt.h"
CASE(nothing) {}
