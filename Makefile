# Every target installs what is missing first and says so; what is there is left alone.
.DEFAULT_GOAL := help
.PHONY: help run dev build test test-format test-lint test-rust test-browser bench fuzz soak prepare screenshots setup

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build, then serve http://127.0.0.1:3000 with data in ./data
	@scripts/setup run
	@scripts/build release
	@scripts/run

dev: ## serve, and rebuild on every change
	@scripts/setup run
	@scripts/dev

build: ## build the server and the browser side, as they ship
	@scripts/setup build
	@scripts/build release

test: ## format, lints, unit, integration and browser tests
	@scripts/test

test-format: ## is the source formatted?
	@scripts/test format

test-lint: ## clippy without warnings, shell scripts, licences
	@scripts/test lint

test-rust: ## unit and integration tests
	@scripts/test rust

test-browser: ## the browser tests of end2end/
	@scripts/test browser

bench: ## the tables of docs/speed.md, measured on this machine: make bench SECONDS_EACH=5
	@scripts/setup run
	@scripts/build release
	@scripts/bench
	@scripts/bench-gateway

fuzz: ## longer runs of what reads bytes from outside: make fuzz FUZZ_SECS=600
	@scripts/fuzz

soak: ## starts, idle stops and crashes in a row; fails if anything is left: make soak SOAK_ROUNDS=1000
	@scripts/soak

prepare: ## describe the SQL queries anew in .sqlx, after a change of SQL or migrations
	@scripts/setup run
	@scripts/prepare

screenshots: ## make docs/screenshots anew
	@scripts/screenshots

setup: ## install what building, running and testing need
	@scripts/setup test
