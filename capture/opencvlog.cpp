#include <opencv2/core/utils/logger.hpp>

// Exceptions must not leave C++; setting a level throws none, but costs nothing
// to be sure of.
extern "C" void gladd_silence_opencv(void) noexcept {
	try {
		cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
	} catch (...) {
	}
}
