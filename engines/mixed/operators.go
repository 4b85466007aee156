package mixed

// class says what precision does to an operator.
type class int

const (
	// full operators compute in FP32: sums over many values, exponentials,
	// quotients of them, what has no FP16 form.
	full class = iota
	// work is what takes a network's time: products of matrices.
	work
	// pointwise operators compute each value from few others.
	pointwise
	// move operators hand values on as they are.
	move
	// observe operators take any type and give another: they need no cast.
	observe
	// quantised operators hold integers and their FP32 scales.
	quantised
	// control operators hold graphs.
	control
)

// operator is what is known of an operator. T is the type of the values that it
// computes with, float32 in most graphs.
type operator struct {
	class class
	data  []int         // the inputs of type T; nil: all
	gives []elementType // types of the outputs, the last for all others; typeT: T
	like  int           // the input whose type the output has, with typeLike
	// reduces says that it makes one value of many. arithmetic says of a full
	// operator that it computes value by value.
	reduces, arithmetic bool
}

// Types of outputs that are not fixed.
const (
	typeT    elementType = -2 // that of the inputs named by data
	typeLike elementType = -3 // that of the input named by like
	typeOpen elementType = -4 // an attribute says, or nobody
)

var (
	ofT      = []elementType{typeT}
	ofInt64  = []elementType{int64s}
	ofBool   = []elementType{booleans}
	ofOpen   = []elementType{typeOpen}
	ofLike   = []elementType{typeLike}
	first    = []int{0}
	noInputs = []int{}
)

// operators of the domain ai.onnx, opset 7 to 21.
var operators = merge(distinct, map[*operator][]string{
	{class: work, gives: ofT}: {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"},
	{class: pointwise, gives: ofT}: {"Abs", "Add", "Ceil", "Celu", "Clip", "Div", "Elu", "Erf", "Floor", "Gelu", "HardSigmoid", "HardSwish",
		"LeakyRelu", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "PRelu", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
		"Softsign", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu"},
	{class: move, data: first, gives: ofT}: {"CenterCropPad", "Compress", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
		"Identity", "Reshape", "ReverseSequence", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze"},
	{class: full, data: first, gives: ofT, reduces: true}: {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
		"ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"},
	{class: full, gives: ofT, arithmetic: true}: {"Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Exp", "Log", "Reciprocal",
		"Sin", "Sinh", "Sqrt", "Tan"},
})

// distinct are the operators that have no like.
var distinct = map[string]operator{
	"Cast":            {class: observe, data: noInputs, gives: ofOpen},
	"CastLike":        {class: full, data: noInputs, gives: ofLike, like: 1},
	"Constant":        {class: full, data: noInputs, gives: ofOpen},
	"ConstantOfShape": {class: full, data: noInputs, gives: ofOpen},
	"EyeLike":         {class: full, data: noInputs, gives: ofOpen},
	"Range":           {class: full, gives: ofT},

	"Shape":   {class: observe, data: noInputs, gives: ofInt64},
	"Size":    {class: observe, data: noInputs, gives: ofInt64},
	"ArgMax":  {class: observe, data: noInputs, gives: ofInt64},
	"ArgMin":  {class: observe, data: noInputs, gives: ofInt64},
	"NonZero": {class: observe, data: noInputs, gives: ofInt64},

	"If":             {class: control, data: noInputs, gives: ofOpen},
	"Loop":           {class: control, data: noInputs, gives: ofOpen},
	"Scan":           {class: control, data: noInputs, gives: ofOpen},
	"SequenceMap":    {class: control, data: noInputs, gives: ofOpen},
	"Bernoulli":      {class: full, data: noInputs, gives: ofOpen},
	"RandomNormal":   {class: full, data: noInputs, gives: ofOpen},
	"RandomUniform":  {class: full, data: noInputs, gives: ofOpen},
	"Equal":          {class: full, gives: ofBool},
	"Greater":        {class: full, gives: ofBool},
	"GreaterOrEqual": {class: full, gives: ofBool},
	"Less":           {class: full, gives: ofBool},
	"LessOrEqual":    {class: full, gives: ofBool},
	"IsInf":          {class: full, gives: ofBool},
	"IsNaN":          {class: full, gives: ofBool},
	"And":            {class: full, data: noInputs, gives: ofBool},
	"Or":             {class: full, data: noInputs, gives: ofBool},
	"Not":            {class: full, data: noInputs, gives: ofBool},

	"QuantizeLinear":        {class: quantised, data: noInputs, gives: ofLike, like: 2},
	"DequantizeLinear":      {class: quantised, data: noInputs, gives: ofLike, like: 1},
	"DynamicQuantizeLinear": {class: quantised, data: noInputs, gives: []elementType{uint8s, float32s, uint8s}},
	"QLinearConv":           {class: quantised, data: noInputs, gives: ofLike, like: 7},
	"QLinearMatMul":         {class: quantised, data: noInputs, gives: ofLike, like: 7},
	"ConvInteger":           {class: quantised, data: noInputs, gives: []elementType{int32s}},
	"MatMulInteger":         {class: quantised, data: noInputs, gives: []elementType{int32s}},

	"GridSample":                {class: full, data: first, gives: ofT},
	"GlobalMaxPool":             {class: full, gives: ofT, reduces: true},
	"GlobalAveragePool":         {class: full, gives: ofT, reduces: true},
	"GlobalLpPool":              {class: full, gives: ofT, reduces: true},
	"LpPool":                    {class: full, gives: ofT},
	"LRN":                       {class: full, gives: ofT},
	"LpNormalization":           {class: full, gives: ofT},
	"LayerNormalization":        {class: full, data: first, gives: []elementType{typeT, float32s}},
	"RMSNormalization":          {class: full, gives: ofT},
	"GroupNormalization":        {class: full, gives: ofT},
	"InstanceNormalization":     {class: full, gives: ofT},
	"BatchNormalization":        {class: full, data: first, gives: ofT},
	"Softmax":                   {class: full, gives: ofT},
	"LogSoftmax":                {class: full, gives: ofT},
	"Hardmax":                   {class: full, gives: ofT},
	"Softplus":                  {class: full, gives: ofT},
	"CumSum":                    {class: full, data: first, gives: ofT},
	"TopK":                      {class: full, data: first, gives: []elementType{typeT, int64s}},
	"OneHot":                    {class: full, data: []int{2}, gives: ofT},
	"ScatterElements":           {class: full, data: []int{0, 2}, gives: ofT},
	"ScatterND":                 {class: full, data: []int{0, 2}, gives: ofT},
	"MeanVarianceNormalization": {class: full, gives: ofT},

	"Where":   {class: move, data: []int{1, 2}, gives: ofT},
	"Pad":     {class: move, data: []int{0, 2}, gives: ofT},
	"Dropout": {class: move, data: first, gives: []elementType{typeT, booleans}},
	"Concat":  {class: move, gives: ofT},

	// The exponent may be of another type; both stay in FP32.
	"Pow":         {class: full, data: first, gives: ofT, arithmetic: true},
	"MaxPool":     {class: pointwise, gives: []elementType{typeT, int64s}},
	"AveragePool": {class: pointwise, gives: ofT},
	"Resize":      {class: pointwise, data: first, gives: ofT},
	"Upsample":    {class: pointwise, data: first, gives: ofT},
}

// merge adds operators that differ in nothing but their names.
func merge(table map[string]operator, alike map[*operator][]string) map[string]operator {
	for operator, names := range alike {
		for _, name := range names {
			table[name] = *operator
		}
	}
	return table
}
