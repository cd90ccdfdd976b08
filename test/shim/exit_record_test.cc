#include "shim/exit_record.h"

#include <string>

#include "gtest/gtest.h"

namespace wisp {
namespace {

constexpr int64_t kSecond = 1700000000;

TEST(ExitRecordTest, ReadsWhatGoWrites) {
  const absl::StatusOr<ExitRecord> record = ParseExitRecord(
      R"({"Timestamp":"2023-11-14T22:13:20.000000005Z","Pid":4300,"Status":42})");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(*record,
            (ExitRecord{absl::FromUnixSeconds(kSecond) + absl::Nanoseconds(5),
                        4300, 42, false}));
}

TEST(ExitRecordTest, WritesWhatGoWrites) {
  ExitRecord record{absl::FromUnixSeconds(kSecond) + absl::Nanoseconds(5), 4300,
                    42};
  EXPECT_EQ(
      FormatExitRecord(record),
      R"({"Timestamp":"2023-11-14T22:13:20.000000005Z","Pid":4300,"Status":42})");
  record.at = absl::FromUnixSeconds(kSecond);
  EXPECT_EQ(FormatExitRecord(record),
            R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":4300,"Status":42})");
  record = {absl::FromUnixSeconds(kSecond) + absl::Nanoseconds(1) / 4, 0, 137,
            true};
  EXPECT_EQ(
      FormatExitRecord(record),
      R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":0,"Status":137,"Guessed":true})");
}

TEST(ExitRecordTest, TakesAnyOffset) {
  const absl::StatusOr<ExitRecord> record = ParseExitRecord(
      R"({"Timestamp":"2023-11-15T00:13:20.5+02:00","Pid":1,"Status":0})");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->at,
            absl::FromUnixSeconds(kSecond) + absl::Milliseconds(500));
}

TEST(ExitRecordTest, GuessesMayLackAPidAndOthersMayNot) {
  EXPECT_TRUE(
      ParseExitRecord(
          R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":0,"Status":137,"Guessed":true})")
          .ok());
  EXPECT_FALSE(
      ParseExitRecord(
          R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":0,"Status":137})")
          .ok());
}

TEST(ExitRecordTest, RefusesWhatDoesNotCount) {
  for (
      const char* text : {
          "",
          "[]",
          "{}",
          R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":1})",
          R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":1,"Status":-1})",
          R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":1,"Status":"42"})",
          R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":-5,"Status":1})",
          R"({"Timestamp":"0001-01-01T00:00:00Z","Pid":1,"Status":1})",
          R"({"Timestamp":"infinite-future","Pid":1,"Status":1})",
          R"({"Timestamp":" 2023-11-14T22:13:20Z","Pid":1,"Status":1})",
          R"({"Timestamp":"2023-11-14 22:13:20","Pid":1,"Status":1})",
          R"({"Timestamp":1700000000,"Pid":1,"Status":1})",
          R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":1,"Status":4294967296})",
          R"({"Timestamp":"2023-11-14T22:13:20Z","Pid":1,"Stat)",
      }) {
    EXPECT_FALSE(ParseExitRecord(text).ok()) << text;
  }
}

TEST(ExitRecordTest, SurvivesTheRoundTrip) {
  for (const int64_t nanos : {0, 1, 100, 123456789, 999999999}) {
    const ExitRecord record{absl::FromUnixNanos(kSecond * 1000000000 + nanos),
                            7, 255, nanos == 1};
    EXPECT_EQ(*ParseExitRecord(FormatExitRecord(record)), record);
  }
}

}  // namespace
}  // namespace wisp
