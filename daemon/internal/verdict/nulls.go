package verdict

// A part of several views was inspected by several recipes and cameras, or by
// one: its views say which. Its own record has null there.

// MarshalJSON implements [json.Marshaler]; the zero value is null.
func (r Recipe) MarshalJSON() ([]byte, error) {
	type plain Recipe
	return orNull(r, plain(r))
}

// MarshalJSON implements [json.Marshaler]; the zero value is null.
func (b Bundle) MarshalJSON() ([]byte, error) {
	type plain Bundle
	return orNull(b, plain(b))
}

// MarshalJSON implements [json.Marshaler]; the zero value is null.
func (m Method) MarshalJSON() ([]byte, error) {
	type plain Method
	return orNull(m, plain(m))
}

// MarshalJSON implements [json.Marshaler]; the zero value is null.
func (c Camera) MarshalJSON() ([]byte, error) {
	type plain Camera
	return orNull(c, plain(c))
}

// orNull is null for a zero value, and otherwise its fields.
func orNull[T comparable](value T, fields any) ([]byte, error) {
	var zero T
	if value == zero {
		return []byte("null"), nil
	}
	return JSON(fields)
}
