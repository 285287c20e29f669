# What contributors run; see CONTRIBUTING.md. Users run install.sh.

STORM ?= TestStorm
CHECK ?=
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help build test portable check storm mutations model fuzz bench install packages ci

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

build: ## ./dblock, linked as it is installed
	sh install.sh --build dblock

test: ## all tests
	go test -race ./...

portable: ## all tests of the half for other systems
	go test -tags portable ./...

check: ## what needs no run: format, vet, linters, scripts, the manual, other systems
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet -tags bench ./...
	go vet -tags portable ./...
	$(STATICCHECK) -tags bench ./...
	$(GOLANGCI) run
	find . -name node_modules -prune -o -name '*.sh' -print0 | xargs -0 shellcheck .ci/run completion/dblock.bash
	mandoc -Tlint -Wwarning docs/*.[157]
	for system in linux/arm64 darwin/arm64 freebsd/amd64; do \
		GOOS=$${system%/*} GOARCH=$${system#*/} CGO_ENABLED=0 go vet ./... || exit; done

storm: ## a storm for a minute (STORM=TestMixed, ...; see test/storm)
	go test ./test/storm -count=1 -v -run '$(STORM)$$' -storm=60s -full

mutations: ## each check of the lock code is needed (CHECK=NAME for one)
	test/mutate.sh $(CHECK)

model: ## every order of events, in Promela
	docs/model/run.sh

fuzz: ## the parsers of what others write
	go test ./lock/internal/notice -run '^$$' -fuzz FuzzParse -fuzztime 60s
	go test ./lock/internal/judge -run '^$$' -fuzz FuzzJudge -fuzztime 60s
	go test ./history -run '^$$' -fuzz FuzzParse -fuzztime 60s
	go test ./session -run '^$$' -fuzz FuzzParse -fuzztime 60s

bench: build ## a run's cost beside other tools
	go run -tags bench ./run/bench "$(CURDIR)/dblock"

install: ## into PREFIX, $HOME/.local unless set
	sh install.sh

packages: ## archives and packages, made twice and used
	packaging/check.sh

ci: ## all that CI does, on Debian
	.ci/run
