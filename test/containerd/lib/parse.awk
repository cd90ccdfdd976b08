# Reads the output of a Go test program run with -test.v; prints
# name, status, seconds, note (the first message of a failed or skipped test).
# A test that began and has no result is printed with the status "none".
function clean(s) { gsub(/[\t\r]/, " ", s); return substr(s, 1, 300) }
/^=== (RUN|CONT|NAME|PAUSE) / {
  cur = $3
  if ($2 == "RUN" && !(cur in seen)) { seen[cur] = 1; order[++n] = cur }
  next
}
match($0, /--- (PASS|FAIL|SKIP|BENCH): [^ ]+ \([0-9.]+s\)/) {
  s = substr($0, RSTART, RLENGTH)
  split(s, f, " ")
  st = f[2]; sub(/:/, "", st)
  name = f[3]
  sec = f[4]; gsub(/[()s]/, "", sec)
  status[name] = tolower(st); secs[name] = sec
  if (!(name in seen)) { seen[name] = 1; order[++n] = name }
  cur = name
  next
}
/^Benchmark[^ ]+[ \t]+[0-9]+[ \t]+[0-9.]+ ns\/op/ {
  name = $1; sub(/-[0-9]+$/, "", name)
  if (!(name in seen)) { seen[name] = 1; order[++n] = name }
  status[name] = "pass"; secs[name] = sprintf("%.2f", $2 * $3 / 1e9)
  note[name] = sprintf("%d x %.2f ms", $2, $3 / 1e6)
  next
}
/^panic: / { if (!panic) panic = clean($0) }
# testify prints the place, then "Error:" and the text, which may begin on the
# line after it; plain messages: the last one counts
/^[ \t]+Error:[ \t]/ && cur != "" && !(cur in terr) {
  e = $0; sub(/^[ \t]*Error:[ \t]*/, "", e); terr[cur] = clean(place[cur] e); more = 1; next
}
more && /^[ \t]+[ ]{8,}[ \t]/ { e = $0; sub(/^[ \t]+/, "", e); terr[cur] = clean(terr[cur] " " e); more = 0; next }
{ more = 0 }
/^ +log_hook\.go:/ { next }
/^ +[A-Za-z0-9_]+\.go:[0-9]+: / {
  if (cur != "") {
    m = $0; sub(/^ +/, "", m)
    if (m ~ /: *$/) place[cur] = m; else note[cur] = clean(m)
  }
}
END {
  for (i = 1; i <= n; i++) {
    t = order[i]
    if (t in terr) note[t] = terr[t]
    st = (t in status) ? status[t] : "none"
    if (st == "bench") st = "pass"
    m = ((st == "pass" && t !~ /^Benchmark/) || !(t in note)) ? "" : note[t]
    if (st == "none") m = (panic ? panic : "no result") (m ? "; " m : "")
    printf "%s\t%s\t%s\t%s\n", t, st, (t in secs) ? secs[t] : "0", m
  }
}
