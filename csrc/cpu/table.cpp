#include "kernels.h"

namespace ANATOMAD_LEVEL {

const Kernels kernels{label_map,      one_hot_argmax,          one_hot_argmax_backward, label_edges,
                      argmax_edges_backward, edge_magnitude, edge_magnitude_backward, sobel,
                      sobel_backward, median,                  resample_argmax,         contrast,
                      soft_contrast,  group_norm_silu,         group_norm_silu_backward};

}  // namespace ANATOMAD_LEVEL
