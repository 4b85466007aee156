//go:build tensorrt && linux

#define GLADD_TRT_ABI 10
#define GLADD_TRT_TABLE gladd_trt_shim_10
#define GLADD_TRT_INFER "10/NvInfer.h"
#define GLADD_TRT_PARSER "10/NvOnnxParser.h"

#include "shim.hpp"
