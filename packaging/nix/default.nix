# dblock for Nix: nix-build -E 'with import <nixpkgs> {}; callPackage ./packaging/nix {}'
{
  lib,
  stdenv,
  buildGoModule,
}:

let
  # The release that is to come, as the programs themselves say it.
  version = builtins.head (
    builtins.match ".*const Release = \"([^\"]*)\".*" (builtins.readFile ../../internal/version/version.go)
  );
  # As in install.sh, which says why.
  entry = stdenv.hostPlatform.isLinux && (stdenv.hostPlatform.isx86_64 || stdenv.hostPlatform.isAarch64);
in
buildGoModule {
  pname = "dblock";
  inherit version;
  src = lib.cleanSource ../..;
  # packaging/check.sh says when it is another.
  vendorHash = "sha256-90e2+xtBcXKsQgMGv4GaBmFBA9gPyt6LYmIXIbBgct8=";

  subPackages = [ "." ];
  env.CGO_ENABLED = 0;
  ldflags = [
    "-s -w"
    "-X runtime.godebugDefault=asyncpreemptoff=1"
    "-X main.version=${version}"
  ]
  ++ lib.optional entry "-E github.com/dblock-dev/dblock/internal/entry.start";

  # The companions are linked without these flags. dblock-remote and dblock-remote-etcd, for locks on servers, are
  # of a module of their own, and not among them.
  postBuild = ''
    go build -trimpath -ldflags "-s -w" -o "$GOPATH/bin/" ./cmd/...
  '';
  # The tests need programs and time: .ci/run runs them.
  doCheck = false;

  postInstall = ''
    sh packaging/share.sh "$out" ${version} ""
  '';

  meta = {
    description = "Run a command while holding a database's lock";
    homepage = "https://github.com/dblock-dev/dblock";
    license = lib.licenses.mit;
    mainProgram = "dblock";
    platforms = lib.platforms.unix;
  };
}
