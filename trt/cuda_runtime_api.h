// TensorRT's headers include CUDA's, of which they name two types only. gladd is
// built without CUDA.
#pragma once
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
