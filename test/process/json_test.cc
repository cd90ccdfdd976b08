#include "process/json.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

Json Parsed(std::string_view text) {
  absl::StatusOr<Json> json = Json::Parse(text);
  EXPECT_TRUE(json.ok()) << json.status() << " in " << text;
  return json.ok() ? *std::move(json) : Json::Object();
}

TEST(JsonTest, AnswersEveryQuestionAboutWhatIsNotThere) {
  const Json json = Parsed(R"({"linux":{"path":"/a","n":1},"null":null})");
  EXPECT_EQ(json["linux"]["path"].StringOr("-"), "/a");
  EXPECT_FALSE(json["linux"]["path"]["deeper"].exists());
  EXPECT_FALSE(json["windows"]["a"].at(3)["b"].exists());
  EXPECT_FALSE(json["null"].exists());
  EXPECT_EQ(json["linux"]["n"].StringOr("-"), "-");
  EXPECT_EQ(json["linux"]["path"].Int64Or(7), 7);
  EXPECT_EQ(json["linux"]["path"].AsBool(), std::nullopt);
  EXPECT_TRUE(json["linux"].elements().empty());
  EXPECT_TRUE(json["linux"]["n"].members().empty());
  EXPECT_EQ(json["nothing"].Dump(), "null");
}

TEST(JsonTest, TakesNumbersOnlyIfTheyFit) {
  const Json json = Parsed(
      R"({"big":18446744073709551615,"small":-9223372036854775808,
          "huge":18446744073709551616,"half":0.5,"one":1.0})");
  EXPECT_THAT(json["big"].AsUint64(), Optional(UINT64_MAX));
  EXPECT_EQ(json["big"].AsInt64(), std::nullopt);
  EXPECT_THAT(json["small"].AsInt64(), Optional(INT64_MIN));
  EXPECT_EQ(json["small"].AsUint64(), std::nullopt);
  EXPECT_EQ(json["huge"].AsUint64(), std::nullopt);
  EXPECT_EQ(json["half"].AsInt64(), std::nullopt);
  EXPECT_EQ(json["one"].AsInt64(), std::nullopt);
  EXPECT_THAT(json["half"].AsDouble(), Optional(0.5));
}

TEST(JsonTest, RefusesWhatIsNoJson) {
  for (std::string_view text : {"", " ", "{", "{}x", "{\"a\":}", "nul", "'a'",
                                "{\"a\":1,}", "\"\n\""}) {
    EXPECT_EQ(Json::Parse(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(JsonTest, RefusesNestingThatWouldExhaustTheStack) {
  const std::string deep(4 << 20, '[');
  EXPECT_FALSE(Json::Parse(deep).ok());
  const std::string open(Json::kMaxDepth, '[');
  const std::string close(Json::kMaxDepth, ']');
  EXPECT_EQ(Parsed(open + close).Dump(), open + close);
  EXPECT_FALSE(Json::Parse("[" + open + close + "]").ok());
}

TEST(JsonTest, BracketsInsideStringsAreNoNesting) {
  const std::string brackets(2000, '[');
  EXPECT_EQ(Parsed("\"\\\"" + brackets + "\"").view().AsString(),
            "\"" + brackets);
}

TEST(JsonTest, ReplacesBytesThatAreNoUtf8AsGoDoes) {
  const Json json = Parsed("{\"a\":\"x\xff\xc3(\xe2\x82\"}");
  EXPECT_EQ(json["a"].AsString(),
            "x\xEF\xBF\xBD\xEF\xBF\xBD(\xEF\xBF\xBD\xEF\xBF\xBD");
  Json made = Json::Object();
  made.Set("a", std::string("\xfe"));
  EXPECT_EQ(made.Dump(), "{\"a\":\"\xEF\xBF\xBD\"}");
}

TEST(JsonTest, KeepsTheOrderOfMembersAndTheLastOfTwins) {
  EXPECT_EQ(Parsed(R"({"z":1,"a":2,"z":3})").Dump(), R"({"z":3,"a":2})");
  std::vector<std::string> keys;
  const Json json = Parsed(R"({"b":1,"a":2})");
  for (const auto& [key, value] : json.view().members()) keys.push_back(key);
  EXPECT_THAT(keys, ElementsAre("b", "a"));
}

TEST(JsonTest, ChangesOneMemberAndLeavesTheOthers) {
  Json json = Parsed(R"({"args":["sh"],"terminal":false,"x":{"y":1.50}})");
  json.Set("terminal", true);
  json.Set("cwd", "/");
  json.Set("umask", 18);
  json.Remove("x");
  json.Remove("absent");
  EXPECT_EQ(json.Dump(),
            R"({"args":["sh"],"terminal":true,"cwd":"/","umask":18})");
}

TEST(JsonTest, BuildsObjectsInArrays) {
  Json list = Json::Array();
  list.Append("a");
  Json entry = Json::Object();
  entry.Set("id", uint32_t{4294967295});
  entry.Set("down", int64_t{-1});
  list.Append(std::move(entry));
  Json root = Json::Object();
  root.Set("list", std::move(list));
  EXPECT_EQ(root.Dump(), R"({"list":["a",{"id":4294967295,"down":-1}]})");
}

TEST(JsonTest, AMovedFromValueIsNothing) {
  Json json = Parsed(R"({"a":1})");
  const Json moved = std::move(json);
  EXPECT_TRUE(moved["a"].exists());
  // NOLINTNEXTLINE(bugprone-use-after-move): that it is harmless is the point.
  EXPECT_FALSE(json["a"].exists());
  json.Set("b", 1);
  EXPECT_EQ(json.Dump(), R"({"b":1})");
}

}  // namespace
}  // namespace wisp
