#include <cstdint>
namespace fake {
extern const int32_t version;
const int32_t version = FAKE_VERSION;
} // namespace fake
