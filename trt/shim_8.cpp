//go:build tensorrt && tensorrt8 && linux

// The headers of 8.x come with the system (JetPack 5: libnvinfer-headers-dev and
// libnvonnxparsers-dev); no package registry has them.
#define GLADD_TRT_ABI 8
#define GLADD_TRT_TABLE gladd_trt_shim_8
#define GLADD_TRT_INFER <NvInfer.h>
#define GLADD_TRT_PARSER <NvOnnxParser.h>

#include "shim.hpp"
