# Sourced inside the namespaces: starts the registry and waits for it.
registry_hosts="ghcr.io registry.k8s.io k8s.gcr.io gcr.io docker.io registry-1.docker.io quay.io mcr.microsoft.com"
registry_start() {
  if [ ! -e /itest/ca.pem ] || [ ! -e /itest/registry.pem ]; then
    local h san=
    for h in $registry_hosts; do san=$san,DNS:$h; done
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=itest CA" \
      -keyout /itest/ca.key -out /itest/ca.pem 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -subj "/CN=itest registry" \
      -keyout /itest/registry.key -out /itest/registry.csr 2>/dev/null
    printf 'subjectAltName=%s\n' "${san#,}" >/itest/registry.ext
    openssl x509 -req -in /itest/registry.csr -CA /itest/ca.pem -CAkey /itest/ca.key \
      -CAcreateserial -days 3650 -extfile /itest/registry.ext -out /itest/registry.pem 2>/dev/null
  fi
  { echo "127.0.0.1 localhost itest $registry_hosts"; echo "::1 localhost"; } >/etc/hosts
  cat >/run/registry.yml <<END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: /itest/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:443", tls: {certificate: /itest/registry.pem, key: /itest/registry.key}}
END
  docker-registry serve /run/registry.yml >/itest/out/registry.log 2>&1 &
  registry_pid=$!
  local i
  for i in $(seq 100); do
    (exec 3<>/dev/tcp/127.0.0.1/443) 2>/dev/null && return 0
    sleep 0.1
  done
  echo "the registry does not start:"; cat /itest/out/registry.log
  return 1
}
