# Needs python3 (3.10 or newer) with its venv module; everything else goes into $(VENV).
PYTHON ?= python3
VENV ?= .venv
STAMP := $(VENV)/.installed

# The environment alone counts, whatever ROS distribution or other environment the shell has sourced.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV LD_LIBRARY_PATH AMENT_PREFIX_PATH RMW_IMPLEMENTATION _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: demo test test-slow lint venv

demo: venv
	$(VENV)/bin/aprloc demo

test: venv
	$(VENV)/bin/python -m pytest -n 2 --dist loadgroup

test-slow: venv
	$(VENV)/bin/python -m pytest -m slow -s

lint: venv
	$(VENV)/bin/ruff check .

venv: $(STAMP)

$(STAMP): setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo 'make: error: $(PYTHON) is missing or older than 3.10; name another one: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo 'make: error: $(PYTHON) has no venv module; install it: sudo apt install python3-venv' >&2; exit 1; }
	@echo '[1/2] creating the virtual environment $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@echo '[2/2] installing the dependencies (PyTorch and ROS among them; minutes on a slow line)'
	@$(VENV)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[ros,eval,train,test]'
	@touch $@
	@echo 'done: $(VENV) is ready'
