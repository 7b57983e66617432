package peers;

import java.util.HashMap;
import java.util.Map;

/** What a peer is told: arguments of the form key=value. */
public final class Settings {
  private final Map<String, String> values = new HashMap<>();

  /** @param known the keys that the peer has, with their defaults; null where there is none */
  public Settings(String[] arguments, Map<String, String> known) {
    values.putAll(known);
    for (String argument : arguments) {
      int equals = argument.indexOf('=');
      if (equals < 0 || !known.containsKey(argument.substring(0, equals))) {
        throw new IllegalArgumentException("no such setting: " + argument + "; there are " + known.keySet());
      }
      values.put(argument.substring(0, equals), argument.substring(equals + 1));
    }
  }

  public String text(String key) {
    String value = values.get(key);
    if (value == null || value.isEmpty()) throw new IllegalArgumentException(key + "=… is missing");
    return value;
  }

  /** Empty where the setting may be left out, and is. */
  public String textOrNone(String key) {
    return values.get(key) == null ? "" : values.get(key);
  }

  public int number(String key) {
    return Integer.parseInt(text(key));
  }
}
