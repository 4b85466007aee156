# Everything is built and run through these targets: they bring what is missing
# and set the build tags. 'make' alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# GoCV's modules for OpenCV 4.6, and TensorRT where setup brought its headers or,
# for 8.x, the system has them. The linter has the first ones in .golangci.yml.
# Looked at by each recipe, not before: setup may just have brought them.
TENSORRT = $(shell test ! -e lib/tensorrt-headers/rtx || echo ,tensorrt)
TENSORRT8 = $(shell cat /usr/include/*/NvInferVersion.h 2>/dev/null | grep -q 'NV_TENSORRT_MAJOR 8' && echo ,tensorrt8)
TAGS = gocv_specific_modules,gocv_videoio$(TENSORRT)$(TENSORRT8)
OWN_GOFLAGS := $(filter-out -tags=%,$(GOFLAGS))
export GOFLAGS = $(OWN_GOFLAGS) -buildvcs=false -tags=$(TAGS)

# NVML's header marks calls as deprecated that go-nvml wraps all the same.
export CGO_CFLAGS := -O2 -g -Wno-deprecated-declarations

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOLANGCI_LINT := bin/tools/golangci-lint-v2.15.0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## run a line on a folder of pictures; BUNDLE=DIR DATA=DIR for your own
	@scripts/demo.sh

.PHONY: test
test: setup-tests ## run all tests
	go test -race -timeout 20m ./...
	@scripts/test-fuzz.sh

.PHONY: test-faults
test-faults: setup-tests ## kill gladd, its broker, network and disk for some minutes; as root
	GLADD_FAULTS=1 go test -count=1 -timeout 20m -v -run '^TestFault[A-Z]' ./daemon

.PHONY: test-asan
test-asan: setup-tests ## test TensorRT's wrapper and the CUDA layer with AddressSanitizer
	CGO_CXXFLAGS="-O1 -g -fsanitize=address -fno-omit-frame-pointer" go test -asan -p 1 ./trt/...

.PHONY: test-tensorrt-rtx
test-tensorrt-rtx: setup ## build engines of all graphs with the true TensorRT for RTX, which needs no GPU for that
	@scripts/test-tensorrt-rtx.sh

.PHONY: test-arm64
test-arm64: setup ## build gladd for aarch64 and test it by qemu
	@scripts/test-arm64.sh

.PHONY: test-gpu
test-gpu: build ## on a machine with an NVIDIA GPU: test and measure, one table
	@scripts/test-gpu.sh

.PHONY: build
build: setup ## build bin/gladd
	go build -ldflags "-X main.version=$(VERSION)" -o bin/gladd ./daemon

.PHONY: setup
setup: ## install what is missing: Debian packages, Go modules, ONNX Runtime's library
	@scripts/setup.sh

.PHONY: setup-tests
setup-tests: ## and what the tests need: mosquitto, systemd's tools, GStreamer's plugins
	@scripts/setup.sh tests

# Where 'make install' puts things; DESTDIR is put before them.
PREFIX := /usr/local

.PHONY: install
install: build ## install the program, its library, the unit and a first configuration
	@scripts/install.sh "$(DESTDIR)" "$(PREFIX)"

.PHONY: bench
bench: setup-tests ## measure speed and memory; BUNDLE=DIR DATA=DIR for your own
	@scripts/bench.sh

# The training package has an environment of its own; PyTorch makes it 5 GB.
TRAINING := out/training/env

$(TRAINING)/installed: training/pyproject.toml
	@scripts/setup.sh training
	@echo "training: installing PyTorch and what belongs to it into $(TRAINING), once; this takes minutes"
	python3 -m venv --clear $(TRAINING)
	$(TRAINING)/bin/pip install --quiet --disable-pip-version-check --editable 'training[teacher,prompts,test]'
	touch $@

.PHONY: train
train: build $(TRAINING)/installed ## train the demo's model on plates of the virtual line; goes on where it was cut off
	@scripts/train.sh

.PHONY: test-training
test-training: build $(TRAINING)/installed ## test the training package: a few steps of each network, export, eval
	PYTHONDONTWRITEBYTECODE=1 $(TRAINING)/bin/python -m pytest -q -p no:cacheprovider training

.PHONY: test-training-official
test-training-official: build $(TRAINING)/installed ## test the export of GLAD's official networks at full size; an hour, 20 GB
	GLADD_OFFICIAL=1 PYTHONDONTWRITEBYTECODE=1 $(TRAINING)/bin/python -m pytest -q -s -p no:cacheprovider training/tests/test_official.py

.PHONY: lint
lint: setup $(GOLANGCI_LINT) ## check the code's style
	$(GOLANGCI_LINT) run --build-tags $(TAGS) ./...

$(GOLANGCI_LINT):
	@echo "lint: building golangci-lint, once; this takes minutes"
	GOFLAGS= GOBIN=$(CURDIR)/bin/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv bin/tools/golangci-lint $@

.PHONY: goldens
goldens: ## make the test data again that comes from other programs
	python3 -m venv out/goldens
	out/goldens/bin/pip install --quiet --requirement testdata/goldens/requirements.txt
	PYTHONPATH=bench/reference PYTHONDONTWRITEBYTECODE=1 out/goldens/bin/python testdata/goldens/make.py

.PHONY: clean
clean: ## remove what was built and downloaded
	rm -rf bin lib out
