# A shell's own work: variables, arithmetic, patterns, an array, functions; no other program.
gcd() {
    local a=$1 b=$2
    while ((b)); do
        ((a %= b, a ^= b, b ^= a, a ^= b))
    done
    answer=$a
}
declare -A seen
sum=0
while read -r -a words && ((++n <= 1500)); do
    for word in "${words[@]}"; do
        ((seen[$word]++))
        case $word in
            *th* | e*e) ((sum += ${#word})) ;;
            a*) word=${word/a/xyz}; ((sum ^= ${#word} << 3)) ;;
        esac
    done
    gcd $((n * 7919)) $((sum + 1))
    ((sum += answer))
done <text
echo "${#seen[@]} $sum"
