/* kernels/cpu/ops.c - which table of operations this CPU gets. */
#include "kernels/kernels.h"

const sl_ops *sl_ops_cpu(const char **features)
{
    if (features != NULL)
        *features = "no fast table for this CPU";
    return NULL;
}
