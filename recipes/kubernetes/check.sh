#!/bin/sh
. "$RECIPES/lib.sh"
need python3 python3
python3 -c 'import yaml' 2>/dev/null || need python3-yaml python3-yaml
need psql postgresql-client
remote dblock-remote
remote dblock-remote-etcd

# 1. The API of Kubernetes knows every field, where there is somebody to ask.
valid="not held against the API"
if command -v kubectl-validate >/dev/null; then
	kubectl-validate --version 1.30 migrate.yaml leader.yaml >"$scratch/valid" 2>&1 || fail "$(cat "$scratch/valid")"
	valid="valid"
fi

# 2. What belongs together does, and the very commands are those that run below.
cat >"$scratch/pods.py" <<'END'
import json, shlex, sys, yaml

def seconds(text):
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]

name, replace = sys.argv[1], json.loads(sys.argv[2])
with open(name) as f:
    pod = yaml.safe_load(f)["spec"]["template"]["spec"]
(container,) = pod["containers"]
command = container["command"]
grace = seconds(command[command.index("--kill-after") + 1]) if "--kill-after" in command else 10
assert pod["terminationGracePeriodSeconds"] > grace, "killed before the command has ended"
volumes = {v["name"]: v for v in pod["volumes"]}
mounts = {m["mountPath"]: volumes[m["name"]] for m in container["volumeMounts"]}
assert set(volumes) == {m["name"] for m in container["volumeMounts"]}, "a volume is not mounted"
env = {e["name"]: e.get("value") for e in container["env"]}
assert "emptyDir" in mounts[env["XDG_STATE_HOME"]], "the state has no place of its own"
assert "PGPASSWORD" not in env or env["PGPASSWORD"] is None, "a password in the file"
for key, value in env.items():
    if key.endswith(("CERT", "CACERT", "KEY")):
        assert value.rsplit("/", 1)[0] in mounts, value + " is mounted nowhere"
command += container["args"] if len(sys.argv) < 4 else sys.argv[3:]
for key in env:
    env[key] = replace.get(key, env[key])
    assert env[key] is not None, key + " comes from nowhere"
for old, new in replace.items():
    command = [c.replace("$(" + old + ")" if old in env else old, new) for c in command]
print("exec env " + " ".join(shlex.quote(k + "=" + v) for k, v in env.items()) + " " + shlex.join(command))
END

# pod NAME FILE COMMAND...: a script with the command of a file, for a machine of its own.
pod() {
	name=$1 file=$2
	shift 2
	mkdir "$scratch/$name"
	python3 "$scratch/pods.py" "$file" "{\"PGPASSWORD\": \"${password:-secret}\", \"@db.internal/shop\": \"@localhost:$pg_port/postgres\",
		\"PGSSLROOTCERT\": \"$pg_place/server.crt\", \"XDG_STATE_HOME\": \"$scratch/$name\", \"POD_NAME\": \"$name\",
		\"etcd-0.etcd:2379,etcd-1.etcd:2379,etcd-2.etcd:2379\": \"localhost:$etcd_port\",
		\"ETCDCTL_CACERT\": \"$scratch/server.crt\", \"ETCDCTL_CERT\": \"$scratch/server.crt\", \"ETCDCTL_KEY\": \"$scratch/server.key\"}" \
		"$@" >"$scratch/$name.sh" || fail "$file is not right"
}

postgres_server
certificate "$scratch"
etcd_server --cert-file "$scratch/server.crt" --key-file "$scratch/server.key" --client-cert-auth --trusted-ca-file "$scratch/server.crt"

# 3. The Job: three pods that migrate at once, with the password of the secret and a checked certificate.
psql -X -q -h "$pg_place" -p "$pg_port" -U app -d postgres -c 'CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)'
cat >migrate <<'END'
#!/bin/sh
n=$(psql -X -q -A -t -h localhost -p "$pg_port" -U app -d postgres -c 'SELECT n FROM counter')
[ "$n" != 0 ] || psql -X -q -A -t -h localhost -p "$pg_port" -U app -d postgres -f who.sql >who.0
sleep 0.2
psql -X -q -h localhost -p "$pg_port" -U app -d postgres -c "UPDATE counter SET n = $((n + 1))"
END
chmod +x migrate
export pg_port
migrations() {
	psql -X -q -h "$pg_place" -p "$pg_port" -U app -d postgres -c 'UPDATE counter SET n = 0'
	(
		for n in 1 2 3; do
			sh "$scratch/job-$n.sh" &
			set -- "$@" $!
		done
		wait_all "$@"
	) || return 1
	[ "$(psql -X -q -A -t -h "$pg_place" -p "$pg_port" -U app -d postgres -c 'SELECT n FROM counter')" = 3 ] ||
		{ say "one migration did not see the other one"; return 1; }
}
for n in 1 2 3; do pod "job-$n" migrate.yaml; done
migrations || fail "three pods that migrate at once"
grep -q 'ExclusiveLock|dblock [0-9]*@.* migration' who.0 || fail "who.sql did not find the holder: $(cat who.0)"
grep -q '|dblock waits [0-9a-f]* [0-9]*@.* migration|' who.0 || fail "who.sql did not find who waits: $(cat who.0)"
password=secret-wrong pod refused migrate.yaml
code=0
sh "$scratch/refused.sh" 2>"$scratch/refused.said" || code=$?
equal "exit code with a wrong password" "$code" 77
! grep -q secret-wrong "$scratch/refused.said" || fail "the password was told: $(cat "$scratch/refused.said")"
breaks 5 migrations

# 4. The Deployment: one of three pods leads, and when it ends another one does.
for n in 1 2 3; do
	# shellcheck disable=SC2016
	pod "leader-$n" leader.yaml sh -c 'echo $POD_NAME >>led; exec sleep 60'
done
export ETCDCTL_ENDPOINTS="https://localhost:$etcd_port" ETCDCTL_CACERT="$scratch/server.crt" ETCDCTL_CERT="$scratch/server.crt" ETCDCTL_KEY="$scratch/server.key"
until_true 30 etcdctl get /
: >led
led() {
	[ "$(grep -c . led)" = "$1" ]
}
queued() {
	[ "$(./who.sh | grep -c '"process":"leader-')" = "$1" ]
}
for n in 1 2 3; do
	sh "$scratch/leader-$n.sh" 2>"$scratch/leader-$n.said" &
	eval "pid_$n=$!"
done
for n in 1 2 3; do
	until_true 30 led "$n"
	until_true 10 queued $((4 - n))
	leader=$(tail -n 1 led)
	eval "kill -TERM \$pid_${leader#leader-}"
done
wait_ended() {
	code=0
	wait "$1" || code=$?
	equal "exit code of a pod that was told to end" "$code" 143
}
# shellcheck disable=SC2154
{ wait_ended "$pid_1"; wait_ended "$pid_2"; wait_ended "$pid_3"; }
equal "how many led" "$(sort -u led | grep -c .)" 3
say "$valid; three Jobs migrate one after the other, three pods lead one after the other"
