# Puts two files of KIND<TAB>LABEL<TAB>VALUE beside each other, Go's first, and judges
# the second. Status 1 if a promise is broken.
FNR == NR { go[$1, $2] = $3; next }
FNR == 1 { printf "%-6s %-46s %12s %12s\n", "", "containerd " version, "go", "candidate" }
{
  verdict = ""
  if ($2 ~ /^(private|anonymous): growth, KiB$/ && $3 > 64) verdict = "more than 64"
  if ($2 ~ /^(fds|threads): growth$/ && $3 > 0) verdict = "grows"
  if ($2 == "threads" && $3 != 1) verdict = "not 1"
  if ($2 == "exits not told once" && $3 != 0) verdict = "not 0"
  if ($2 == "runs of the runtime without an exec" && $3 != 0) verdict = "not 0"
  if ($2 ~ /^left in the shim/ && $3 != 0) verdict = "not 0"
  if ($2 ~ /^idle .*context switches$/ && $3 > 1) verdict = "wakes"
  if ($2 ~ /CPU per 1000 execs/ && $3 * 4 > go[$1, $2]) verdict = "more than a quarter of Go's"
  # Of the same machine at another time.
  if ($2 ~ /: p99, us$/ && $3 > go[$1, $2] * 1.1) verdict = "slower than Go's"
  printf "%-6s %-46s %12s %12s%s\n", $1, $2, go[$1, $2], $3, verdict == "" ? "" : "   WRONG: " verdict
  if (verdict != "") bad = 1
}
END { exit bad }
