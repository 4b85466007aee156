//go:build tensorrt && linux

#define GLADD_TRT_ABI 11
#define GLADD_TRT_TABLE gladd_trt_shim_11
#define GLADD_TRT_INFER "11/NvInfer.h"
#define GLADD_TRT_PARSER "11/NvOnnxParser.h"

#include "shim.hpp"
