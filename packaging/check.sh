#!/usr/bin/env bash
# usage: packaging/check.sh [DIRECTORY]
#
# Makes a release of the last commit, as if it had its tag, and uses it: archives and
# packages are the same bytes when they are made again elsewhere, the programs are what
# install.sh builds, and they are installed and run in a bare Debian without Go, Node and
# Python. The release is left in DIRECTORY, if that is given.
#
# With CI=true nothing is left out, and what it needs is installed. Otherwise it says what it
# leaves out. It needs no rights for all but the Debian, and no network for what it has in its
# cache, ${XDG_CACHE_HOME:-$HOME/.cache}/dblock-packaging.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022

goreleaser=github.com/goreleaser/goreleaser/v2@v2.15.1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dblock-packaging
keep=${1:-}
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT # Go's modules are read-only
mkdir -p "$cache"

step() { printf '\n--- %s (%d s)\n' "$*" "$SECONDS"; }

fail() {
	printf 'check.sh: %s\n' "$*" >&2
	exit 1
}

# without WHAT WHY: this is left out.
without() {
	[ "${CI:-}" != true ] || fail "$1 is needed in CI, but $2"
	printf 'left out: %s: %s\n' "$1" "$2"
}

has() { command -v "$1" >/dev/null; }

if [ "${CI:-}" = true ]; then
	missing=()
	for need in debootstrap:debootstrap ruby:ruby nix:nix-bin busybox:busybox rpm:rpm curl:curl wget:wget \
		openssl:openssl dash:dash qemu-arm:qemu-user mandoc:mandoc; do
		has "${need%%:*}" || missing+=("${need#*:}")
	done
	if [ "${#missing[@]}" -gt 0 ]; then
		sudo=()
		[ "$(id -u)" = 0 ] || sudo=(sudo)
		"${sudo[@]}" apt-get update -q >/dev/null
		DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
	fi
fi

step "goreleaser"
tool=$cache/${goreleaser##*@}
if [ ! -x "$tool/goreleaser" ]; then
	GOBIN=$work/bin go install "$goreleaser"
	mkdir -p "$tool"
	mv "$work/bin/goreleaser" "$tool/"
fi
"$tool/goreleaser" check

version=$(sed -n 's/^const Release = "\(.*\)"$/\1/p' internal/version/version.go)

# release DIRECTORY: in a clone, because of the tag.
release() {
	git clone -q . "$1"
	git -C "$1" -c advice.detachedHead=false checkout -q "$(git rev-parse HEAD)"
	git -C "$1" tag -f "v$version" >/dev/null
	# One build at a time: an archive holds its programs in the order in which they were built.
	(cd "$1" && "$tool/goreleaser" release --clean --parallelism 1 --skip=publish,announce,validate) >"$work/log" 2>&1 || {
		cat "$work/log"
		fail "goreleaser failed"
	}
}

step "a release, made twice"
release "$work/first"
dist=$work/first/dist
(
	umask 077
	export TZ=Pacific/Auckland LC_ALL=C
	release "$work/another directory"
)
diff "$dist/checksums.txt" "$work/another directory/dist/checksums.txt" || fail "two builds differ"
(cd "$dist" && sha256sum --quiet -c checksums.txt)
printf 'the same bytes: %d files\n' "$(wc -l <"$dist/checksums.txt")"
rm -rf "$work/another directory"

step "what install.sh builds of the tag"
for system in linux_amd64 linux_arm64 linux_arm_7 linux_riscv64 darwin_amd64 darwin_arm64 freebsd_amd64; do
	IFS=_ read -r GOOS GOARCH GOARM <<<"$system"
	GOOS=$GOOS GOARCH=$GOARCH GOARM=$GOARM sh "$work/first/install.sh" --build "$work/built"
	cmp "$work/built" "$dist"/dblock-entry_"$system"*/dblock 2>/dev/null ||
		cmp "$work/built" "$dist"/dblock_"$system"*/dblock || fail "the release has another dblock for $system"
done
printf 'the same bytes: dblock for 7 systems\n'

step "what is in them"
(cd "$work/first" && find .release/share -type f | sed 's/^.release/usr/' && printf 'usr/bin/%s\n' dblock dblock-stats dblock-top dblock-remote dblock-remote-etcd) |
	sort >"$work/files"
for page in docs/*.[1-8]; do
	grep -qxF "usr/share/man/man${page##*.}/${page##*/}" "$work/files" || fail "$page is not installed"
	if has mandoc; then
		mandoc -Tlint -Wwarning "$work/first/.release/share/man/man${page##*.}/${page##*/}"
	fi
done
for completion in completion/*dblock*; do
	[ ! -f "$completion" ] || grep -qE '/(completions/dblock|_dblock|dblock\.fish)$' "$work/files" ||
		fail "$completion is not installed"
done
# same NAME: the list on standard input is what is to be in each package.
same() {
	sed -n 's#^\.\{0,1\}/\{0,1\}\(usr/.*[^/]\)$#\1#p' | sort | diff - "$work/files" || fail "$1 has other files"
}
for deb in "$dist"/*.deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar -t | same "$deb"
done
for apk in "$dist"/*.apk; do
	tar -tzf "$apk" 2>/dev/null | same "$apk"
done
if has rpm; then
	for rpm in "$dist"/*.rpm; do
		rpm -qp --queryformat '[%{FILEMODES:perms} %{FILENAMES}\n]' "$rpm" 2>/dev/null | sed -n 's/^-[^ ]* //p' | same "$rpm"
	done
else
	without "the rpms' files" "there is no rpm"
fi
for system in linux_amd64 linux_arm64 linux_armv7 linux_riscv64 darwin_amd64 darwin_arm64 freebsd_amd64; do
	archive=dblock_${version}_$system
	tar -tzf "$dist/$archive.tar.gz" | sed -n "s#^$archive/\(dblock.*\)#usr/bin/\1#p; s#^$archive/\(share/.*\)#usr/\1#p" | same "$archive"
	for program in dblock dblock-stats dblock-top dblock-remote dblock-remote-etcd; do
		[ -s "$dist/${program}_${version}_$system.sbom.json" ] || fail "there is no SBOM of $program for $system"
	done
done
packages=("$dist"/*.tar.gz "$dist"/*.deb "$dist"/*.rpm "$dist"/*.apk)
printf '%d archives and packages hold the same %d files\n' "${#packages[@]}" "$(wc -l <"$work/files")"

# What dblock is asked to do where it was installed.
use='set -e
	dblock --version
	dblock -d app.db -- echo it works
	dblock -d app.db -- dblock status -d app.db >while.txt
	grep -q "This is you" while.txt || { cat while.txt; exit 1; }
	dblock status -d app.db
	dblock log -d app.db
	dblock stats -d app.db
	dblock top --help >top.txt'

step "programs for other processors"
if has qemu-aarch64 && has qemu-arm && has qemu-riscv64; then
	for pair in arm64:qemu-aarch64 armv7:qemu-arm riscv64:qemu-riscv64; do
		system=linux_${pair%:*}
		tar -xzf "$dist/dblock_${version}_$system.tar.gz" -C "$work"
		(cd "$work" && "${pair#*:}" "dblock_${version}_$system/dblock" --version &&
			"${pair#*:}" "dblock_${version}_$system/dblock" -d "$system.db" -- echo it works)
	done
else
	without "running them" "there is no qemu-user"
fi

step "install.sh, from the release"
mkdir -p "$work/server"
ln -s "$dist" "$work/server/v$version"
if has curl; then
	env -u DESTDIR DBLOCK_BASE_URL="file://$work/server" PREFIX="$work/prefix" sh -s -- --version "v$version" <install.sh
	(cd "$work" && PATH=$work/prefix/bin:$PATH && eval "$use") | sed 's/^/    /'
	(cd "$work/prefix" && find . -type f | sed 's#^\./#usr/#' | sort) |
		diff - <(grep -v '^usr/share/doc' "$work/files") || fail "install.sh installs other files than the packages"
	PREFIX=$work/prefix sh -s -- --uninstall <install.sh >/dev/null
	[ -z "$(find "$work/prefix" ! -type d)" ] || fail "install.sh left files"
else
	without "install.sh from the release" "there is no curl"
fi

step "a bare Debian"
# debian makes $root, from the cache if it is there: where apt here gets its packages.
debian() {
	local codename mirror tarball
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	root=$work/root
	tarball=$cache/$codename-$(dpkg --print-architecture).tar
	if [ ! -f "$tarball" ]; then
		# shellcheck disable=SC2016 # apt's own names
		mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
			sed -n "s/^$codename //p" | head -n 1)
		debootstrap --variant=minbase "$codename" "$root" "$mirror" >"$work/log" 2>&1 || {
			tail -n 20 "$work/log"
			fail "debootstrap failed"
		}
		rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
		tar -C "$root" --one-file-system -cf "$tarball.part" .
		mv "$tarball.part" "$tarball"
	else
		mkdir -p "$root"
		tar -C "$root" -xf "$tarball"
	fi
}
# there COMMAND: in the bare Debian, with /proc, and nothing of it left here.
there() {
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount --pid --fork --kill-child sh -c 'mount -t proc proc "$1/proc" && exec chroot "$1" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LC_ALL=C.UTF-8 sh -c "$2"' sh "$root" "cd /root; $1"
}
listing() { (cd "$root" && find usr etc opt root -printf '%p %y %m\n' | sort); }
if ! has debootstrap || [ "$(id -u)" != 0 ]; then
	without "a bare Debian" "it needs debootstrap and root"
elif ! unshare --mount --pid --fork true 2>/dev/null; then
	without "a bare Debian" "there are no mount namespaces here"
else
	debian
	for none in go node python3; do
		! there "command -v $none" || fail "the bare Debian has $none"
	done
	listing >"$work/before"
	architecture=$(dpkg --print-architecture)

	printf '\nthe deb:\n'
	cp "$dist/dblock_${version}_$architecture.deb" "$root/root/dblock.deb"
	there 'dpkg -i dblock.deb' | sed 's/^/    /'
	there "$use" | sed 's/^/    /'
	while read -r file; do
		[ -e "$root/$file" ] || fail "the deb did not install $file"
	done <"$work/files"
	there 'dpkg --verify dblock'
	grep -q "\"dblock $version\"" "$root/usr/share/man/man1/dblock.1" || fail "the manual page has no version"
	there 'dpkg -P dblock' >/dev/null
	there 'rm -rf dblock.deb app.db .app.* while.txt top.txt'
	listing | diff "$work/before" - || fail "the deb left something"

	printf '\nthe archive:\n'
	tar -xzf "$dist/dblock_${version}_linux_$architecture.tar.gz" -C "$root/opt"
	there "PATH=/opt/dblock_${version}_linux_$architecture:\$PATH; $use" | sed 's/^/    /'
	rm -rf "$root/opt/dblock_${version}_linux_$architecture"
	there 'rm -rf app.db .app.* while.txt top.txt'
	listing | diff "$work/before" - || fail "the archive left something"
fi

step "Homebrew"
if has ruby; then
	sh packaging/homebrew/formula.sh "$dist/checksums.txt" >"$work/dblock.rb"
	ruby -wc packaging/homebrew/dblock.rb
	ruby -wc "$work/dblock.rb"
	ruby -w packaging/homebrew/check.rb "$work/dblock.rb" "$dist" "$work/brew"
else
	without "the formula" "there is no ruby"
fi

step "Nix"
if has nix; then
	# The sources as Nix has them: without the repository.
	git clone -q . "$work/nix"
	rm -rf "$work/nix/.git"
	(cd "$work/nix" && go mod vendor)
	nix-instantiate --parse packaging/nix/default.nix >/dev/null
	nix=(nix --extra-experimental-features nix-command)
	# derive SYSTEM EXPRESSION: of what the derivation is for it, without Nix's packages.
	derive() {
		"${nix[@]}" eval --store dummy:// --impure --raw --expr "let made = import $work/nix/packaging/nix {
			buildGoModule = attributes: attributes;
			lib = {
				cleanSource = toString;
				optional = yes: x: if yes then [ x ] else [ ];
				licenses.mit = \"MIT\";
				platforms.unix = [ ];
			};
			stdenv.hostPlatform = { isLinux = \"$1\" == \"linux\"; isx86_64 = true; isAarch64 = false; };
		}; in $2" 2>"$work/log" || { cat "$work/log" >&2; fail "Nix cannot evaluate the derivation"; }
	}
	hash=$("${nix[@]}" hash path "$work/nix/vendor")
	[ "$(derive linux made.vendorHash)" = "$hash" ] || fail "vendorHash in packaging/nix/default.nix must be $hash"
	# shellcheck disable=SC2016 # for Nix
	derive darwin '"${made.pname} ${made.version} for others: ${toString made.ldflags}"'
	printf '\n'
	(
		cd "$work/nix"
		export GOFLAGS=-mod=vendor CGO_ENABLED=0 GOPATH=$work/nix-go out=$work/nix-out
		mkdir -p "$GOPATH/bin" "$out"
		go build -trimpath -ldflags "$(derive linux 'toString made.ldflags')" -o "$GOPATH/bin/" .
		eval "$(derive linux made.postBuild)"
		eval "$(derive linux made.postInstall)"
		mv "$GOPATH/bin" "$out/"
		# dblock-remote and dblock-remote-etcd are of another module, with other sources to fetch.
		(cd "$out" && find . -type f | sed 's#^\./#usr/#' | sort) | diff - <(grep -v '/dblock-remote' "$work/files") || fail "Nix has other files"
		if [ "$(uname -s)" = Linux ]; then
			said=$("$out/bin/dblock" --version)
			printf '%s\n' "$said"
			grep -q "^dblock $version .*entry point yes" <<<"$said" || fail "Nix builds another dblock"
		fi
	)
else
	without "the derivation" "there is no nix"
fi

if [ -n "$keep" ]; then
	mkdir -p "$keep"
	find "$dist" -maxdepth 1 -type f -exec cp {} "$keep/" \;
fi
step "all of it is well"
