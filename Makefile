# Every target sets up what it needs first; see scripts/setup.sh.
VENV ?= $(or $(VIRTUAL_ENV),.venv)
export VENV
PYTHON_BIN = $(VENV)/bin/python
# All below runs on the environment's own ROS 2 wheels: nothing of a sourced ROS install or of another environment's
# wheels may mix in.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH _ROS_WHEELS_BOOTSTRAP_COMPLETE

TASK ?= put the red cube in the bin
# The ones that take minutes at most.
BENCHMARKS ?= policy_latency pipeline_latency seams gate_latency gate_soak

ALONE = tests/faults tests/system

# Meta-World: its own environment, and a folder for what the protocols make (docs/benchmark.md).
METAWORLD_VENV ?= .venv-metaworld
METAWORLD_OUT ?= runs/metaworld
METAWORLD = $(METAWORLD_VENV)/bin/python -m benchmarks.metaworld

.PHONY: help setup setup-dev demo test test-slow faults bench loop lint sbom
.PHONY: metaworld metaworld-setup metaworld-test metaworld-mt50 metaworld-dream-rl metaworld-dream-rl-few
.PHONY: metaworld-vetting metaworld-detector
help:
	@echo "make demo       simulated robot does a task (TASK=\"$(TASK)\")"
	@echo "make test       tests without the slow ones"
	@echo "make test-slow  the slow ones"
	@echo "make faults     the fault matrix, as a table"
	@echo "make bench      quick benchmarks, results in benchmarks/results"
	@echo "make loop       rollouts, dream RL, promotion, swap and rollback, small: 6 to 11 minutes on two cores"
	@echo "make metaworld  the outside benchmark, in stages: metaworld-mt50, -dream-rl, -dream-rl-few, -vetting, -detector (hours)"
	@echo "make lint       ruff and mypy"
	@echo "make sbom       bill of materials of this environment, sbom.json"
	@echo "make setup      what 'demo' needs;  make setup-dev  what the others need"

setup:
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh dev

demo: setup
	$(VENV)/bin/vla-mbpo up --task "$(TASK)"

# What disturbs a whole stack runs by itself, the rest on two processors.
test: setup-dev
	@status=0; \
	OMP_NUM_THREADS=1 $(PYTHON_BIN) -m pytest -m "not slow" -n 2 --dist loadfile tests $(ALONE:%=--ignore=%) || status=1; \
	$(PYTHON_BIN) -m pytest -m "not slow" $(ALONE) || status=1; \
	exit $$status

test-slow: export BROWSER = yes
test-slow: setup-dev
	$(PYTHON_BIN) -m pytest -m slow tests

faults: setup-dev
	$(PYTHON_BIN) -m pytest tests/faults

bench: setup-dev
	@mkdir -p benchmarks/results
	@set -e; for name in $(BENCHMARKS); do \
		echo "== $$name"; $(PYTHON_BIN) -m benchmarks.$$name --json benchmarks/results/$$name.json; \
	done

loop: setup-dev
	@scripts/loop.sh

metaworld-setup:
	@VENV=$(METAWORLD_VENV) scripts/setup.sh metaworld

metaworld-test: metaworld-setup
	$(METAWORLD_VENV)/bin/python -m pytest tests/outside

# Each of these resumes. Further options: make metaworld-mt50 MT50="--samples 500000".
metaworld: metaworld-mt50 metaworld-dream-rl metaworld-dream-rl-few metaworld-vetting metaworld-detector

metaworld-mt50: metaworld-setup
	$(METAWORLD) mt50 --out $(METAWORLD_OUT)/mt50 $(MT50)
	$(METAWORLD) mt50 --out $(METAWORLD_OUT)/mt50_one_camera --cameras 1 --data $(METAWORLD_OUT)/mt50/demos $(MT50)

metaworld-dream-rl: metaworld-setup
	$(METAWORLD) dream-rl --out $(METAWORLD_OUT)/dream_rl $(DREAM_RL)

# The same from a tenth of the experts' demonstrations: a start that leaves something to gain.
FEW = --expert 5 --samples 100000 --more 100000 --pictures 100000 --looks 80000
metaworld-dream-rl-few: metaworld-setup
	$(METAWORLD) dream-rl --out $(METAWORLD_OUT)/dream_rl_few $(FEW) $(DREAM_RL_FEW)

# Both of that start, too: it fails in every task.
metaworld-vetting: metaworld-dream-rl-few
	$(METAWORLD) vetting --out $(METAWORLD_OUT)/vetting_few --start $(METAWORLD_OUT)/dream_rl_few --looks 80000 $(VETTING)

metaworld-detector: metaworld-dream-rl-few
	$(METAWORLD) detector --out $(METAWORLD_OUT)/detector_few --bundle $(METAWORLD_OUT)/dream_rl_few/seed0/cloned \
		--world-model $(METAWORLD_OUT)/dream_rl_few/seed0/vetting $(DETECTOR)

lint: setup-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy src

sbom: setup
	$(PYTHON_BIN) scripts/sbom.py --json sbom.json
