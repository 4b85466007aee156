// The fake's plan: a header, the profiles, and the ONNX file. Included by fake.cpp.
#pragma once

namespace fake {

struct Plan {
	int32_t version;
	std::string gpu;
	std::vector<Profile> profiles;
	std::string onnx;
};

constexpr char magic[] = "fake TensorRT plan\n";

class Writer {
public:
	std::string bytes;
	void number(int64_t value) { bytes.append(reinterpret_cast<char *>(&value), sizeof value); }
	void text(const std::string &value) {
		number(value.size());
		bytes += value;
	}
	void shape(const Shape &value) {
		number(value.size());
		for (int64_t size : value) {
			number(size);
		}
	}
};

class Reader {
public:
	explicit Reader(std::string content) : bytes(std::move(content)) {}
	int64_t number() {
		int64_t value;
		memcpy(&value, take(sizeof value).data(), sizeof value);
		return value;
	}
	std::string text() { return take(number()); }
	Shape shape() {
		Shape value(static_cast<size_t>(number()) % 9);
		for (int64_t &size : value) {
			size = number();
		}
		return value;
	}

private:
	std::string take(size_t n) {
		if (n > bytes.size() - at) {
			throw std::runtime_error("Plan file is truncated");
		}
		at += n;
		return bytes.substr(at - n, n);
	}
	std::string bytes;
	size_t at = 0;
};

inline std::string write_plan(const Plan &plan) {
	Writer writer;
	writer.bytes = magic;
	writer.number(plan.version);
	writer.text(plan.gpu);
	writer.number(plan.profiles.size());
	for (const Profile &profile : plan.profiles) {
		writer.number(profile.size());
		for (const auto &entry : profile) {
			writer.text(entry.first);
			for (const Shape &shape : entry.second.shapes) {
				writer.shape(shape);
			}
		}
	}
	writer.text(plan.onnx);
	return writer.bytes;
}

inline Plan read_plan(const std::string &bytes) {
	Plan plan;
	if (bytes.compare(0, sizeof magic - 1, magic) != 0) {
		throw std::runtime_error("Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.");
	}
	Reader reader(bytes.substr(sizeof magic - 1));
	plan.version = reader.number();
	plan.gpu = reader.text();
	plan.profiles.resize(reader.number());
	for (Profile &profile : plan.profiles) {
		for (int64_t n = reader.number(); n > 0; n--) {
			Range &range = profile[reader.text()];
			for (Shape &shape : range.shapes) {
				shape = reader.shape();
			}
		}
	}
	plan.onnx = reader.text();
	return plan;
}

} // namespace fake
