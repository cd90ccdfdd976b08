#include "shim/options.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace wisp {
namespace {

using Action = ShimOptions::Action;

absl::StatusOr<ShimOptions> Parse(std::vector<const char*> words,
                                  std::vector<const char*> environment = {}) {
  words.insert(words.begin(), "/usr/bin/containerd-shim-wisp-v2");
  environment.push_back(nullptr);
  return ParseOptions(static_cast<int>(words.size()), words.data(),
                      environment.data());
}

ShimOptions Parsed(std::vector<const char*> words) {
  absl::StatusOr<ShimOptions> options = Parse(std::move(words));
  EXPECT_TRUE(options.ok()) << options.status();
  return options.ok() ? *options : ShimOptions();
}

std::string Refusal(std::vector<const char*> words) {
  const absl::Status status = Parse(std::move(words)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(Message(status));
}

TEST(OptionsTest, ReadsWhatEveryDaemonPassesToStart) {
  const ShimOptions options =
      Parsed({"-namespace", "k8s.io", "-address",
              "/run/containerd/containerd.sock", "-publish-binary",
              "/usr/bin/containerd", "-id", "abc", "-debug", "start"});
  EXPECT_EQ(options.program, "/usr/bin/containerd-shim-wisp-v2");
  EXPECT_EQ(options.namespace_name, "k8s.io");
  EXPECT_EQ(options.address, "/run/containerd/containerd.sock");
  EXPECT_EQ(options.publish_binary, "/usr/bin/containerd");
  EXPECT_EQ(options.id, "abc");
  EXPECT_TRUE(options.debug);
  EXPECT_EQ(options.action, Action::kStart);
}

TEST(OptionsTest, ReadsDeleteInfoAndVersion) {
  const ShimOptions options = Parsed({"-bundle", "/b", "delete"});
  EXPECT_EQ(options.bundle, "/b");
  EXPECT_EQ(options.action, Action::kDelete);
  EXPECT_FALSE(options.debug);
  EXPECT_TRUE(Parsed({"-info"}).info);
  EXPECT_TRUE(Parsed({"-v"}).version);
  EXPECT_TRUE(Parsed({"--version"}).version);
}

TEST(OptionsTest, OneDashOrTwoAndWithOrWithoutEquals) {
  const ShimOptions options =
      Parsed({"--namespace=a", "-id=b=c", "--address", "d", "-bundle="});
  EXPECT_EQ(options.namespace_name, "a");
  EXPECT_EQ(options.id, "b=c");
  EXPECT_EQ(options.address, "d");
  EXPECT_EQ(options.bundle, "");
}

TEST(OptionsTest, AStringTakesTheNextWordWhateverItIs) {
  EXPECT_EQ(Parsed({"-id", "-debug", "start"}).id, "-debug");
  EXPECT_EQ(Parsed({"-id", "start"}).id, "start");
  EXPECT_EQ(Parsed({"-id", "--", "start"}).action, Action::kStart);
}

TEST(OptionsTest, ABooleanNeverTakesTheNextWord) {
  const ShimOptions options = Parsed({"-debug", "false", "start"});
  EXPECT_TRUE(options.debug);
  EXPECT_EQ(options.action, Action::kServe);
  for (const char* word : {"-debug=1", "-debug=t", "-debug=T", "-debug=true",
                           "--debug=TRUE", "-debug=True"}) {
    EXPECT_TRUE(Parsed({word}).debug) << word;
  }
  for (const char* word : {"-debug=0", "-debug=f", "-debug=F", "-debug=false",
                           "-debug=FALSE", "-debug=False"}) {
    EXPECT_FALSE(Parsed({"-debug", word}).debug) << word;
  }
}

TEST(OptionsTest, StopsAtTheFirstWordThatIsNoFlag) {
  const ShimOptions options = Parsed({"start", "-id", "x", "delete"});
  EXPECT_EQ(options.action, Action::kStart);
  EXPECT_EQ(options.id, "");
  EXPECT_EQ(Parsed({"--", "delete"}).action, Action::kDelete);
  EXPECT_EQ(Parsed({"-", "delete"}).action, Action::kServe);
  EXPECT_EQ(Parsed({"", "delete"}).action, Action::kServe);
  EXPECT_EQ(Parsed({"serve"}).action, Action::kServe);
  EXPECT_EQ(Parsed({"inspect", "42"}).action, Action::kInspect);
  EXPECT_EQ(Parsed({"inspect", "42"}).target, "42");
  EXPECT_EQ(Parsed({"inspect"}).target, "");
  EXPECT_EQ(Parsed({}).action, Action::kServe);
}

TEST(OptionsTest, PassesOverFlagsOfTheFuture) {
  const ShimOptions options = Parsed({"-new=1", "-another", "value", "-lonely",
                                      "-id", "x", "--last", "start"});
  EXPECT_EQ(options.id, "x");
  EXPECT_EQ(options.action, Action::kStart);
  EXPECT_EQ(Parsed({"-new", "delete"}).action, Action::kDelete);
  EXPECT_EQ(Parsed({"-new"}).action, Action::kServe);
}

TEST(OptionsTest, RefusesWhatGoRefuses) {
  EXPECT_EQ(Refusal({"-id"}), "flag needs an argument: -id");
  EXPECT_EQ(Refusal({"-debug=maybe"}),
            "invalid boolean value \"maybe\" for -debug: parse error");
  EXPECT_EQ(Refusal({"-debug="}),
            "invalid boolean value \"\" for -debug: parse error");
  EXPECT_EQ(Refusal({"---id", "x"}), "bad flag syntax: ---id");
  EXPECT_EQ(Refusal({"-=x"}), "bad flag syntax: -=x");
}

TEST(OptionsTest, HelpEndsTheParsing) {
  EXPECT_TRUE(Parsed({"-h"}).help);
  EXPECT_TRUE(Parsed({"-id", "x", "-help=no", "-debug=maybe"}).help);
  EXPECT_NE(Usage(Parsed({"-h"})).find("  -namespace string\n"),
            std::string::npos);
}

TEST(OptionsTest, ReadsTheEnvironmentOnce) {
  absl::StatusOr<ShimOptions> options =
      Parse({"start"}, {"TTRPC_ADDRESS=/t", "MAX_SHIM_VERSION=2", "NOVALUE",
                        "SCHED_CORE=1", "TTRPC_ADDRESS=/last"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->ttrpc_address, "/last");
  EXPECT_EQ(options->sched_core, "1");
  EXPECT_TRUE(options->max_version_known);
  EXPECT_FALSE(Parsed({"start"}).max_version_known);
}

TEST(OptionsTest, IdentifiersAreContainerdsAndNothingElse) {
  for (const char* good : {"default", "k8s.io", "a", "0", "a-b_c.d"}) {
    EXPECT_TRUE(ValidateIdentifier(good).ok()) << good;
  }
  EXPECT_TRUE(ValidateIdentifier(std::string(76, 'a')).ok());
  EXPECT_FALSE(ValidateIdentifier(std::string(77, 'a')).ok());
  for (const char* bad : {"", ".", "..", "-a", "a-", "a..b", "a/b", "a b",
                          "a.-b", "\xc3\xa4", "a\n"}) {
    EXPECT_EQ(ValidateIdentifier(bad).code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST(OptionsTest, TheNamespaceIsMandatory) {
  EXPECT_EQ(Message(CheckNamespace(Parsed({"-id", "x", "start"}))),
            "shim namespace cannot be empty");
  EXPECT_FALSE(CheckNamespace(Parsed({"-namespace", "../x"})).ok());
  EXPECT_TRUE(CheckNamespace(Parsed({"-namespace", "moby"})).ok());
}

}  // namespace
}  // namespace wisp
