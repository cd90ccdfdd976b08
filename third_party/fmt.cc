// fmt's code, compiled once. Debian's libfmt is shared only, and header-only
// fmt makes every source that formats a line compile three times as long.
#include <fmt/format-inl.h>

namespace fmt::detail {

// What fmt's headers leave to its library (FMT_HEADER_ONLY is not defined).
template dragonbox::decimal_fp<float> dragonbox::to_decimal(float) noexcept;
template dragonbox::decimal_fp<double> dragonbox::to_decimal(double) noexcept;
template thousands_sep_result<char> thousands_sep_impl(locale_ref);
template char decimal_point_impl(locale_ref);
template void buffer<char>::append(const char*, const char*);
template void vformat_to(buffer<char>&, basic_string_view<char>,
                         basic_format_args<buffer_context<char>>, locale_ref);

}  // namespace fmt::detail
