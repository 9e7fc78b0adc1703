# The tasks of a contributor; CONTRIBUTING.md describes them.
.PHONY: fast test lint format docs wheel

fast:  # the fast tests
	pytest -n auto --dist worksteal -m "not slow"

test:  # all tests
	pytest -n auto --dist worksteal

lint:  # style, types and the floors of the package
	ruff check .
	ruff format --check .
	pyright
	lint-imports

format:  # what lint would change by itself
	ruff check --fix .
	ruff format .

docs:  # the pages in docs/_build; runs every cell, so it takes minutes
	sphinx-build -W -b html docs docs/_build

wheel:  # sdist and wheel in dist, the wheel tried in an empty environment
	.ci/wheel dist
