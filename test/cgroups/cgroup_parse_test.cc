#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cgroups/host.h"
#include "cgroups/parse.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(CgroupParseTest, ReadsNumbers) {
  EXPECT_EQ(*ParseCgroupNumber("42\n", 7), 42u);
  EXPECT_EQ(*ParseCgroupNumber("max\n", 7), 7u);
  EXPECT_EQ(*ParseCgroupNumber("-1", 7), 0u);
  EXPECT_EQ(*ParseCgroupNumber("18446744073709551615", 7), UINT64_MAX);
  for (const char* text :
       {"", "x", "1x", "1 2", "18446744073709551616", "0x1", "1.5", "MAX"}) {
    EXPECT_FALSE(ParseCgroupNumber(text, 7).ok()) << text;
  }
}

TEST(CgroupParseTest, TakesASingleValueItCannotReadForZero) {
  EXPECT_EQ(ParseSingleValue("max\n"), UINT64_MAX);
  EXPECT_EQ(ParseSingleValue("12\n"), 12u);
  EXPECT_EQ(ParseSingleValue("-5\n"), 0u);
  EXPECT_EQ(ParseSingleValue("nonsense"), 0u);
  EXPECT_EQ(ParseSingleValue(""), 0u);
  // The first 32 bytes are the value.
  EXPECT_EQ(ParseSingleValue("7" + std::string(31, '\n') + "x"), 7u);
}

TEST(CgroupParseTest, WantsTwoFieldsPerLine) {
  const auto values = ParseKeyValues("low 0\nmax max\noom_kill 3\n");
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_THAT(*values, ElementsAre(Pair("low", 0u), Pair("max", UINT64_MAX),
                                   Pair("oom_kill", 3u)));
  EXPECT_THAT(*ParseKeyValues(""), IsEmpty());
  for (const char* text : {"low\n", "low 1 2\n", "\nlow 1\n", "low x\n"}) {
    EXPECT_FALSE(ParseKeyValues(text).ok()) << text;
  }
}

TEST(CgroupParseTest, ReadsRdmaLinesOfThreeFields) {
  EXPECT_THAT(ParseRdma("mlx4_0 hca_handle=2 hca_object=2000\n"
                        "ocrdma1 hca_handle=max hca_object=x\n"
                        "short hca_handle=1\n"
                        "a hca_handle=1 hca_object=2 more=3\n"),
              ElementsAre(RdmaEntry{"mlx4_0", 2, 2000},
                          RdmaEntry{"ocrdma1", UINT32_MAX, 0}));
}

TEST(CgroupParseTest, ReadsPressure) {
  const auto stats = ParsePressure(
      "some avg10=1.50 avg60=0.02 avg300=100.00 total=12345\n"
      "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n");
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->some, (PsiData{1.5, 0.02, 100, 12345}));
  EXPECT_EQ(stats->full, (PsiData{0, 0, 0, 7}));
  const auto some = ParsePressure("some avg10=0.00 avg60=0.00 total=1\n");
  ASSERT_TRUE(some);
  EXPECT_FALSE(some->full);
  for (const char* text : {"", "\n", "none avg10=1\n", "some avg10=x\n",
                           "some avg10\n", "some total=-1\n"}) {
    EXPECT_FALSE(ParsePressure(text)) << text;
  }
}

TEST(CgroupParseTest, ReadsIoStat) {
  const auto entries = ParseIoStat(
      "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 x\n"
      "8:0\n"
      "254:1 wios=1\n");
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_THAT(*entries,
              ElementsAre(IoEntry{8, 16, 1459200, 314773504, 192, 353},
                          IoEntry{254, 1, 0, 0, 0, 1}));
  for (const char* text : {"x rbytes=1\n", "8 rbytes=1\n", "8: rbytes=1\n",
                           "8:0 rbytes=x\n", "8:0 rbytes=\n"}) {
    EXPECT_FALSE(ParseIoStat(text).ok()) << text;
  }
}

TEST(CgroupParseTest, ReadsBlkioWithTheFirstNameOfADevice) {
  const DeviceNames names = ParsePartitions(
      "major minor  #blocks  name\n\n"
      " 254        0  268435456 vda\n 254        0  1 other\n");
  const auto entries =
      ParseBlkio("254:0 Read 4096\n8:0 17\nTotal 4096\n", names);
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_THAT(*entries,
              ElementsAre(BlkioEntry{"Read", "/dev/vda", 254, 0, 4096},
                          BlkioEntry{"", "", 8, 0, 17}));
  for (const char* text :
       {"254:0\n", "254 Read 1\n", "254:0 Read x\n", "254:0 Read 1 2\n"}) {
    EXPECT_FALSE(ParseBlkio(text, names).ok()) << text;
  }
}

TEST(CgroupParseTest, NamesHugePageSizes) {
  EXPECT_EQ(HugePageSize("hugepages-64kB"), "64KB");
  EXPECT_EQ(HugePageSize("hugepages-2048kB"), "2MB");
  EXPECT_EQ(HugePageSize("hugepages-1048576kB"), "1GB");
  for (const char* name : {"", ".", "hugepages-", "hugepages-kB",
                           "hugepages-2MB", "hugepages--1kB", "kB"}) {
    EXPECT_EQ(HugePageSize(name), "") << name;
  }
}

TEST(CgroupParseTest, FindsTheRootsOfTheHierarchies) {
  const auto roots = ParseCgroupMounts(
      "30 20 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
      "31 30 0:26 /docker/a\\040b /sys/fs/cgroup/cpu,cpuacct rw shared:1 - "
      "cgroup cgroup rw,cpu,cpuacct\n"
      "32 30 0:27 / /elsewhere/systemd rw - cgroup systemd rw,name=systemd\n"
      "33 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  ASSERT_TRUE(roots.ok()) << roots.status();
  EXPECT_EQ(roots->at(""), "/sys/fs/cgroup");
  EXPECT_EQ(roots->at("cpu"), "/docker/a b");
  EXPECT_EQ(roots->at("cpuacct"), "/docker/a b");
  EXPECT_EQ(roots->at("systemd"), "/");
  EXPECT_FALSE(ParseCgroupMounts("nonsense").ok());
}

}  // namespace
}  // namespace wisp
