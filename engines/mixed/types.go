package mixed

// elementType is TensorProto.DataType.
type elementType int32

const (
	unknown  elementType = 0
	float32s elementType = 1
	uint8s   elementType = 2
	int32s   elementType = 6
	int64s   elementType = 7
	booleans elementType = 9
	float16s elementType = 10
	noTensor elementType = -1 // a sequence, a map, an optional value
)

// width is how many bytes a value takes; 0: it is not known here.
func (e elementType) width() int64 {
	switch e {
	case float32s, int32s:
		return 4
	case float16s:
		return 2
	case int64s:
		return 8
	case uint8s, booleans:
		return 1
	}
	return 0
}
