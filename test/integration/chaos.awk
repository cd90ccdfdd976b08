# Judges the records of chaos: see chaos_pods.sh. The rest comes by name: `names` of all
# faults; `faults`, lines BEGIN END WHOM WHAT; `snapshots` of pods whose shim was killed,
# lines ID STATE; `exits`, lines ID PROCESS STATUS. Status 1 if anything is wrong.
function wrong(what) { print "WRONG: " what; bad = 1 }

function pod_of(id) { sub(/-[0-9]+$/, "", id); return id }

# True if something that concerns container `id` was wrong between two times.
function excused(id, from, to,    i) {
  for (i = 1; i <= fault_count; i++)
    if (fault_begin[i] <= to && fault_end[i] >= from &&
        (fault_whom[i] == "*" || fault_whom[i] == id || fault_whom[i] == pod_of(id))) return 1
  return 0
}

# True if `code` may be what is said of the end of `id`.
function may_be(id, code) {
  return code == plan[id] || (code == 137 && (killed[id] || state[id, "alive"] || state[id, "unborn"]))
}

BEGIN {
  while ((getline line <faults) > 0) {
    split(line, field, " ")
    ++fault_count
    fault_begin[fault_count] = field[1]
    fault_end[fault_count] = field[2]
    fault_whom[fault_count] = field[3]
    ++happened[field[4]]
  }
  while ((getline line <snapshots) > 0) {
    split(line, field, " ")
    state[field[1], field[2]] = 1
    lost_shim[field[1]] = 1
  }
}

$1 == "plan" { plan[$2] = $3; ++count["containers"] }
$1 == "killed" { killed[$2] = 1 }
$1 == "create" {
  if ($5 == 0) { created[$2] = 1; next }
  killed[$2] = 1
  ++count["starts that failed"]
  if (!excused($2, $3, $4)) wrong("create of " $2 " failed without a fault: " $6)
}
$1 == "status" {
  reported[$2] = $3
  if ($3 == plan[$2]) ++count["exits as planned"]
  else if (may_be($2, $3)) ++count[killed[$2] ? "exits by our kill" : "exits with the shim"]
  else if ($3 == "none" && (lost_shim[$2] || !created[$2] || excused($2, $4, $5))) ++count["exits that containerd forgot"]
  else wrong($2 " was to exit with " plan[$2] ", reported is " $3)
}
$1 == "ended" { ended[$2] = $3 }
$1 == "exec" {
  exec_plan[$2, $3] = $4
  if ($7 == $4) { ++count["execs as planned"]; next }
  ++count["execs that failed"]
  # Judged when it is known how its container ended.
  failed_exec[++failed_execs] = $0
}
$1 == "output" {
  if ($3 == "complete") ++count["outputs complete"]
  else if (lost_shim[$2] || killed[$2]) ++count["outputs cut with their shim"]
  else wrong("output of " $2 " ends at line " $4)
}

# An exec fails with its container, at the latest when that has ended by itself, or else
# there was a fault.
function judge_exec(line,    field, id, what) {
  split(line, field, "\t")
  id = field[2]
  what = "exec " id "/" field[3]
  if (field[8] !~ /ctr:/ && field[7] != 124 && field[7] != 137)
    wrong(what " was to return " field[4] ", and did " field[7] ": " field[8])
  else if (created[id] && !lost_shim[id] && !((id in ended) && ended[id] <= field[6]) && !excused(id, field[5], field[6]))
    wrong(what " failed without a fault: " field[8])
}

END {
  for (i = 1; i <= failed_execs; i++) judge_exec(failed_exec[i])
  while ((getline line <exits) > 0) {
    split(line, field, "\t")
    id = field[1]
    if (!(id in plan)) continue
    ++count["exit events"]
    if (field[2] != id) {
      if (((id, field[2]) in exec_plan) && field[3] != exec_plan[id, field[2]] && field[3] != 137)
        wrong("event: exec " id "/" field[2] " was to return " exec_plan[id, field[2]] ", and did " field[3])
    } else if (!may_be(id, field[3])) wrong("event: " id " was to exit with " plan[id] ", and did with " field[3])
    else if (reported[id] ~ /^[0-9]+$/ && reported[id] != field[3])
      wrong("event: " id " exited with " field[3] ", reported is " reported[id])
  }
  for (id in plan) if (!(id in reported)) wrong(id ": nobody asked how it ended")
  split(names, name, /[ \n]+/)
  for (i = 1; i in name; i++) {
    if (name[i] == "") continue
    printf "%7d fault %s\n", happened[name[i]], name[i]
    if (!happened[name[i]]) wrong("has never happened: " name[i])
  }
  for (what in count) printf "%7d %s\n", count[what], what | "sort -k2"
  close("sort -k2")
  exit bad
}
