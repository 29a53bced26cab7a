import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/** SubmitSql FILE PORT: submits the statements of FILE to the cluster whose REST port is PORT, prints "JOB id" for each INSERT. */
public class SubmitSql {
  private static final Pattern SET = Pattern.compile("(?is)^SET\\s+'([^']+)'\\s*=\\s*'([^']*)'$");

  public static void main(String[] arguments) throws Exception {
    Configuration configuration = new Configuration();
    configuration.setString("execution.target", "remote");
    configuration.setString("execution.attached", "false");
    configuration.setString("jobmanager.rpc.address", "127.0.0.1");
    configuration.setString("rest.address", "127.0.0.1");
    configuration.setString("rest.port", arguments[1]);
    List<String> statements = new ArrayList<>();
    for (String part : Files.readString(Path.of(arguments[0])).split(";\\s*(\\n|$)")) {
      Matcher set = SET.matcher(part.trim());
      if (set.matches()) {
        configuration.setString(set.group(1), set.group(2));
      } else if (!part.isBlank()) {
        statements.add(part.trim());
      }
    }
    EnvironmentSettings settings =
        EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build();
    TableEnvironment tables = TableEnvironment.create(settings);
    for (String statement : statements) {
      tables.executeSql(statement).getJobClient().ifPresent(job -> System.out.println("JOB " + job.getJobID()));
    }
    System.out.flush();
    // Client threads would keep the process alive.
    System.exit(0);
  }
}
