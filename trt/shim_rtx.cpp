//go:build tensorrt && linux

#define GLADD_TRT_ABI 1
#define GLADD_TRT_TABLE gladd_trt_shim_rtx
#define GLADD_TRT_INFER "rtx/NvInfer.h"
#define GLADD_TRT_PARSER "rtx/NvOnnxParser.h"

#include "shim.hpp"
